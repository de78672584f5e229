/* Two hidden layers: WIDE lines at a time, their slopes and intercepts in registers. */

#ifndef AGL_NATIVE_WIDE_H
#define AGL_NATIVE_WIDE_H

#include "native_network.h"

#define LANES 16
#define WIDE (2 * LANES)

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));
typedef float Four __attribute__((vector_size(16)));
typedef struct { Lanes first, second; } Wide;

INLINE Lanes spread(float x) { return x - (Lanes){0}; }
INLINE Wide both(float x) { return (Wide){spread(x), spread(x)}; }
INLINE Wide times(Wide x, Wide y) { return (Wide){x.first * y.first, x.second * y.second}; }
INLINE Wide plus(Wide x, Wide y) { return (Wide){x.first + y.first, x.second + y.second}; }
INLINE Wide plus_times(Wide sum, float x, Wide y) {
    return (Wide){sum.first + x * y.first, sum.second + x * y.second};
}

INLINE Wide load(const float *from, int64_t width) {
    Wide found = {{0}, {0}};
    memcpy(&found, from, width == WIDE ? sizeof found : (size_t)width * sizeof(float));
    return found;
}
INLINE void store(float *to, Wide x, int64_t width) {
    memcpy(to, &x, width == WIDE ? sizeof x : (size_t)width * sizeof(float));
}

INLINE Lanes relu(Lanes z) { return (Lanes)((Bits)z & ~(z < 0)); } /* NaN stays NaN */
INLINE Lanes active(Lanes z) { return (Lanes)((Bits)spread(1) & ~(z <= 0)); }

INLINE float total(const float *lanes) {
    Four q[4];
    memcpy(q, lanes, sizeof q);
    q[0] = (q[0] + q[1]) + (q[2] + q[3]);
    return (q[0][0] + q[0][1]) + (q[0][2] + q[0][3]);
}

/* Slope and intercept of the lines `first` to `first + width` left of every knot. */
INLINE void leftmost(Network n, int64_t units, int64_t lines, int64_t first, int64_t width, Wide *slope, Wide *start) {
    *slope = both(0);
    *start = load(n.c + first, width);
    for (int64_t unit = 0; unit < units; unit++)
        if (from_left(n, unit)) {
            const Wide row = load(n.W + unit * lines + first, width);
            *slope = plus_times(*slope, n.w[unit], row);
            *start = plus_times(*start, n.b[unit], row);
        }
}

INLINE void cross(Network n, int64_t unit, Wide row, Wide *slope, Wide *start) {
    const float up = sign(n.w[unit]);
    *slope = plus_times(*slope, up * n.w[unit], row);
    *start = plus_times(*start, up * n.b[unit], row);
}

INLINE void scores_of_lines(
    Network n, const Networks *all, int64_t first, int64_t width, const float *x, const float *knots, float *sums) {
    const Wide v = load(n.v + first, width);
    Wide slope, start;
    leftmost(n, all->units, all->lines, first, width, &slope, &start);
    for (int64_t knot = 0, spot = 0; knot <= all->units; knot++) {
        for (; spot < all->spots && (knot == all->units || x[spot] < knots[knot]); spot++) {
            const Wide z = plus_times(start, x[spot], slope);
            Lanes sum;
            memcpy(&sum, sums + spot * LANES, sizeof sum);
            sum += relu(z.first) * v.first + relu(z.second) * v.second;
            memcpy(sums + spot * LANES, &sum, sizeof sum);
        }
        if (knot < all->units) {
            const int64_t unit = n.order[knot];
            cross(n, unit, load(n.W + unit * all->lines + first, width), &slope, &start);
        }
    }
}

/* What a unit gets from the sums over its active side: `plain` of the gradient, `by_x` of gradient times x. */
INLINE Wide unit_gradient(
    Network n, int64_t unit, Wide row, Wide v, Wide plain, Wide by_x, float *out, int64_t width, float *w_, float *b_) {
    const Wide both_sums = plus_times(times(both(n.b[unit]), plain), n.w[unit], by_x), weighted = times(row, v);
    store(out, times(v, both_sums), width);
    Lanes sum;
    memcpy(&sum, w_ + unit * LANES, sizeof sum);
    sum += weighted.first * by_x.first + weighted.second * by_x.second;
    memcpy(w_ + unit * LANES, &sum, sizeof sum);
    memcpy(&sum, b_ + unit * LANES, sizeof sum);
    sum += weighted.first * plain.first + weighted.second * plain.second;
    memcpy(b_ + unit * LANES, &sum, sizeof sum);
    return times(row, both_sums);
}

INLINE void gradient_of_lines(
    Network n, const Networks *all, int64_t first, int64_t width, const float *x, const float *g, const float *knots,
    float *w_, float *b_, float *intervals) {
    const int64_t units = all->units, lines = all->lines;
    const Wide v = load(n.v + first, width);
    Wide slope, start, plain = both(0), by_x = both(0), v_ = both(0);
    leftmost(n, units, lines, first, width, &slope, &start);
    for (int64_t knot = 0, spot = 0; knot <= units; knot++) {
        Wide here = both(0), here_x = both(0);
        for (; spot < all->spots && (knot == units || x[spot] < knots[knot]); spot++) {
            const Wide z = plus_times(start, x[spot], slope);
            const float gx = g[spot] * x[spot];
            const Wide on = {active(z.first), active(z.second)};
            here = plus_times(here, g[spot], on);
            here_x = plus_times(here_x, gx, on);
        }
        store(intervals + 2 * knot * WIDE, here, WIDE);
        store(intervals + (2 * knot + 1) * WIDE, here_x, WIDE);
        plain = plus(plain, here);
        by_x = plus(by_x, here_x);
        if (knot < units) {
            const int64_t unit = n.order[knot];
            const Wide row = load(n.W + unit * lines + first, width);
            if (n.w[unit] < 0)
                v_ = plus(v_, unit_gradient(
                    n, unit, row, v, plain, by_x, n.W_ + unit * lines + first, width, w_, b_));
            cross(n, unit, row, &slope, &start);
        }
    }
    const Wide everywhere = plain, everywhere_x = by_x;
    plain = by_x = both(0);
    for (int64_t knot = units - 1; knot >= 0; knot--) {
        const int64_t unit = n.order[knot];
        plain = plus(plain, load(intervals + 2 * (knot + 1) * WIDE, WIDE));
        by_x = plus(by_x, load(intervals + (2 * (knot + 1) + 1) * WIDE, WIDE));
        const Wide row = load(n.W + unit * lines + first, width);
        float *out = n.W_ + unit * lines + first;
        if (n.w[unit] > 0) {
            v_ = plus(v_, unit_gradient(n, unit, row, v, plain, by_x, out, width, w_, b_));
        } else if (!(n.w[unit] < 0)) { /* flat: active everywhere or nowhere */
            const float on = from_left(n, unit) ? 1.0f : 0.0f;
            const Wide p = times(both(on), everywhere), q = times(both(on), everywhere_x);
            v_ = plus(v_, unit_gradient(n, unit, row, v, p, q, out, width, w_, b_));
        }
    }
    store(n.c_ + first, times(v, everywhere), width);
    store(n.v_ + first, plus(v_, times(load(n.c + first, width), everywhere)), width);
}

#endif
