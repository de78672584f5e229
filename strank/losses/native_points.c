/* Losses of every spot on its own, squares and rates, with their gradients in float32. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "native.h"
#include "native_math.h"

#define WIDEST 512 /* genes of a block */
#define PART 256   /* spots added up before a sum of sums: rounds less than one long sum */
#define HIGHEST_LOG_RATE 20.0f /* as pointwise.HIGHEST_LOG_RATE */

INLINE void squares(Row s, Row c, float factor, float *restrict out, float *restrict loss, int64_t width) {
    for (int64_t g = 0; g < width; g++) {
        const float rest = s[g] - log1p_of(c[g] * factor);
        loss[g] += rest * rest;
        out[g] = 2.0f * rest;
    }
}

INLINE void rates(Row s, Row c, float shift, float *restrict out, float *restrict loss, int64_t width) {
    for (int64_t g = 0; g < width; g++) {
        const float t = s[g] + shift, beyond = t - HIGHEST_LOG_RATE > 0.0f ? t - HIGHEST_LOG_RATE : 0.0f;
        const float rate = exp_of(t > HIGHEST_LOG_RATE ? HIGHEST_LOG_RATE : t);
        loss[g] += rate * (1.0f + beyond) - c[g] * t;
        out[g] = rate - c[g];
    }
}

INLINE void add_part(double *restrict value, float *restrict part, int64_t width) {
    for (int64_t g = 0; g < width; g++) { value[g] += part[g]; part[g] = 0.0f; }
}

/* For each spot in `keep` (NULL: all): (s - log1p(c x factor))^2, or the Poisson likelihood of log rate s + offset. */
#define POINTS(name, row, nothing)                                                                                    \
    EVERY_CPU void name(                                                                                              \
        const Tables *tables, const unsigned char *keep, int64_t n_spots, const float *per_spot, int64_t n_genes,     \
        double *value) {                                                                                              \
        const Tables t = *tables;                                                                                     \
        float part[WIDEST] = {0};                                                                                     \
        for (int64_t first = 0; first < n_genes; first += WIDEST) {                                                   \
            const int64_t width = n_genes - first < WIDEST ? n_genes - first : WIDEST;                                \
            for (int64_t i = 0; i < n_spots; i++) {                                                                   \
                if (!keep || keep[i])                                                                                 \
                    row(t.scores + i * t.scores_step + first, t.counts + i * t.counts_step + first,                   \
                        per_spot ? per_spot[i] : nothing, t.gradient + i * t.gradient_step + first, part, width);     \
                if (i % PART == PART - 1 || i == n_spots - 1) add_part(value + first, part, width);                   \
            }                                                                                                         \
        }                                                                                                             \
    }

POINTS(strank_squares, squares, 1.0f)
POINTS(strank_rates, rates, 0.0f)
