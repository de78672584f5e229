/* All pairs of spots of a list, gene by gene: only spots with counts have a row of pairs. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "native.h"
#include "native_math.h"

#define LANES 16 /* partial sums of a row, so that it vectorises */

/* sum_j w log(1 + e^(t_j - t_i)) of one row; the slopes are added to `slope`, their sum is `lost`. */
INLINE double row_of_pairs(
    Row t, Row c, float *restrict slope, float own, float count, float share, float power, int weighted, int64_t n,
    float *lost) {
    float loss[LANES] = {0}, sum[LANES] = {0};
    for (int64_t j = 0; j < n; j += LANES)
        for (int64_t k = 0; k < LANES; k++) {
            const float gap = t[j + k] - own, e = exp_of(-fabsf(gap)), over = gap > 0.0f ? gap : 0.0f;
            const float above = gap > 0.0f ? 1.0f : e;
            const float w = weighted ? share * list_weight((c[j + k] + count) / 2, power) : share;
            const float s = w * above / (1.0f + e);
            loss[k] += w * (over + log1p_of(e));
            sum[k] += s;
            slope[j + k] += s;
        }
    double total = 0.0;
    *lost = 0.0f;
    for (int64_t k = 0; k < LANES; k++) { total += loss[k]; *lost += sum[k]; }
    const float self = weighted ? share * list_weight(count, power) : share; /* a spot with itself is no pair */
    return total - self * 0.693147180559945;
}

/* sum over i != j of c_i / (n - 1) log(1 + e^(t_j - t_i)), t = s + offset, by list; the gradient is written. */
EVERY_CPU void strank_all_pairs(
    const Tables *tables, const int64_t *order, const int64_t *lengths, int64_t n_lists, const float *offset,
    float power, int64_t n_genes, double *value) {
    const Tables t = *tables;
    int64_t longest = 0;
    for (int64_t list = 0; list < n_lists; list++) longest = lengths[list] > longest ? lengths[list] : longest;
    const int64_t room = (longest + LANES - 1) / LANES * LANES;
    float *s = malloc(3 * (size_t)room * sizeof(float)), *c = s + room, *slope = c + room;
    for (int64_t list = 0, begin = 0; list < n_lists; begin += lengths[list++]) {
        const int64_t n = lengths[list], padded = (n + LANES - 1) / LANES * LANES;
        for (int64_t g = 0; g < n_genes; g++) {
            if (!s) { value[g] = NAN; continue; }
            float all = 0.0f;
            for (int64_t i = 0; i < padded; i++) s[i] = -INFINITY, c[i] = 0.0f, slope[i] = 0.0f;
            for (int64_t i = 0; i < n; i++) {
                const int64_t spot = order ? order[begin + i] : begin + i;
                s[i] = t.scores[spot * t.scores_step + g] + (offset ? offset[spot] : 0.0f);
                c[i] = t.counts[spot * t.counts_step + g];
                all += s[i] + c[i];
            }
            value[g] += 0.0f * all; /* NaN that comes in stays visible */
            for (int64_t i = 0; i < n; i++) {
                float lost;
                if (n < 2 || c[i] == 0.0f) continue;
                const float share = c[i] / (float)(n - 1);
                value[g] += power == 1.0f ? row_of_pairs(s, c, slope, s[i], c[i], share, power, 0, padded, &lost)
                                          : row_of_pairs(s, c, slope, s[i], c[i], share, power, 1, padded, &lost);
                slope[i] -= lost;
            }
            for (int64_t i = 0; i < n; i++)
                t.gradient[(order ? order[begin + i] : begin + i) * t.gradient_step + g] = slope[i];
        }
    }
    free(s);
}
