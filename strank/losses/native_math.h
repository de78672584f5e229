/* exp, log and log1p in float32 that vectorise: no table, no branch, NaN stays NaN. */

#ifndef STRANK_NATIVE_MATH_H
#define STRANK_NATIVE_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

INLINE float as_float(int32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
INLINE int32_t as_bits(float x) { int32_t bits; memcpy(&bits, &x, 4); return bits; }

INLINE float exp_of(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    float in = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float shifted = in * 1.44269504f + magic, n = shifted - magic;
    float r = (in - n * 0.693145752f) - n * 1.42860677e-6f;
    float p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666657f + r * (0.0416695364f
              + r * (0.00833358756f + r * 0.00138731f)))));
    float found = p * as_float((as_bits(shifted) - as_bits(magic) + 127) << 23);
    return x < -87.0f ? 0.0f : found;
}

INLINE float log_of(float x) { /* for normal x > 0; NaN stays NaN */
    int32_t exponent = (as_bits(x) - 0x3f2aaaab) & (int32_t)0xff800000;
    float f = as_float(as_bits(x) - exponent) - 1.0f, s = f * f; /* of a mantissa in [2/3, 4/3) */
    float r = -0.130310059f, t = 0.140869141f;
    r = r * s - 0.121483512f;
    t = t * s + 0.139814854f;
    r = r * s - 0.166846126f;
    t = t * s + 0.200120345f;
    r = r * s - 0.249996200f;
    r = t * f + r;
    r = r * f + 0.333331972f;
    r = r * f - 0.5f;
    r = r * s + f;
    return (float)exponent * 1.19209290e-7f * 0.693147182f + r + 0.0f * x;
}

INLINE float log1p_of(float z) { /* the quotient gives back what 1 + z has rounded away */
    float u = 1.0f + z, found = log_of(u) + (z - (u - 1.0f)) / u;
    return u <= 0.0f ? NAN : found;
}

INLINE float list_weight(float mean_count, float power) { /* as inputs.list_weight */
    return mean_count > 0.0f ? exp_of((power - 1.0f) * log_of(mean_count)) : 0.0f * mean_count;
}

#endif
