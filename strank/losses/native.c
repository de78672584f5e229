/* The list, Pearson and pair losses with their gradients in float32, for native.py.

   Lists are walked one after the other in blocks of genes that stay in the cache. Inner loops run over genes: they
   vectorise without -ffast-math, so NaN stays NaN, and no result depends on threads or on the width of a vector unit.
   `order` lists the spots list after list (NULL: as they lie), `lengths` says how many belong to each list. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "native.h"
#include "native_math.h"

#define VERSION 6      /* of this interface; native.py asks for the same */
#define WIDEST 512     /* genes of a block */
#define BLOCK (1 << 19) /* elements of a block: narrower ones stay nearer but cost more in pages touched */
#define FEWEST 3       /* spots of a list with a correlation, as groups.FEWEST_SPOTS */
#define LAST_PLACES 4  /* as groups.LAST_PLACES */
#define PART 256       /* spots added up before a sum of sums: rounds less than one long sum */

int strank_version(void) { return VERSION; }

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE int64_t block_width(int64_t n_spots) {
    int64_t width = BLOCK / n_spots / 16 * 16;
    return width < 32 ? 32 : least(width, WIDEST);
}

INLINE int64_t spot_at(const int64_t *order, int64_t place) { return order ? order[place] : place; }

INLINE void add_parts(float *restrict sum, float *restrict part, int64_t width) {
    for (int64_t g = 0; g < width; g++) { sum[g] += part[g]; part[g] = 0.0f; }
}

/* The steps of the losses are functions of their own: only so a compiler believes that nothing overlaps. */

INLINE void highest(Row s, float shift, float *restrict top, int64_t width) {
    for (int64_t g = 0; g < width; g++) top[g] = s[g] + shift > top[g] ? s[g] + shift : top[g];
}

INLINE void exponentials(
    Row s, Row c, Row top, float shift, float *restrict out, float *restrict mass, float *restrict depth,
    float *restrict dot, int64_t width) {
    for (int64_t g = 0; g < width; g++) {
        const float x = s[g] + shift - top[g], e = exp_of(x);
        out[g] = e;
        mass[g] += e;
        depth[g] += c[g];
        dot[g] += c[g] * x;
    }
}

INLINE void list_terms(
    float *restrict mass, float *restrict depth, float *restrict dot, Row weight, int64_t width) {
    for (int64_t g = 0; g < width; g++) { /* -> factor of the exponentials, factor of the counts, loss */
        const float all = depth[g], w = weight[g];
        dot[g] = w * (all * log_of(mass[g]) - dot[g]);
        mass[g] = w * all / mass[g];
        depth[g] = w;
    }
}

INLINE void softmax_gradient(Row c, Row ratio, Row weight, float *restrict out, int64_t width) {
    for (int64_t g = 0; g < width; g++) out[g] = out[g] * ratio[g] - c[g] * weight[g];
}

INLINE void add_to(double *restrict value, Row found, int64_t width) {
    for (int64_t g = 0; g < width; g++) value[g] += found[g];
}

INLINE void means(Row sum, float n_spots, float *restrict mean, int64_t width) {
    for (int64_t g = 0; g < width; g++) mean[g] = sum[g] / n_spots;
}

INLINE void weights(Row depth, float n_spots, float power, float *restrict weight, int64_t width) {
    if (power == 1.0f)
        for (int64_t g = 0; g < width; g++) weight[g] = 1.0f;
    else
        for (int64_t g = 0; g < width; g++) weight[g] = list_weight(depth[g] / n_spots, power);
}

/* -sum c log softmax(s + offset) by list: value [gene] is added to, the gradient is written. */
EVERY_CPU void strank_multinomial(
    const Tables *tables, const int64_t *order, const int64_t *lengths, int64_t n_lists, const float *offset,
    float power, int64_t n_genes, double *value) {
    const Tables t = *tables;
    float top[WIDEST], weight[WIDEST], sums[3][WIDEST], part[3][WIDEST] = {{0}};
    for (int64_t list = 0, begin = 0; list < n_lists; begin += lengths[list++]) {
        const int64_t n = lengths[list], block = block_width(n);
        for (int64_t first = 0; first < n_genes; first += block) {
            const int64_t width = least(block, n_genes - first);
            for (int64_t g = 0; g < width; g++) top[g] = -INFINITY;
            for (int64_t i = begin; i < begin + n; i++) {
                const int64_t spot = spot_at(order, i);
                const float shift = offset ? offset[spot] : 0.0f;
                highest(t.scores + spot * t.scores_step + first, shift, top, width);
            }
            for (int k = 0; k < 3; k++) memset(sums[k], 0, (size_t)width * sizeof(float));
            for (int64_t i = begin; i < begin + n; i++) {
                const int64_t spot = spot_at(order, i);
                const float shift = offset ? offset[spot] : 0.0f;
                exponentials(
                    t.scores + spot * t.scores_step + first, t.counts + spot * t.counts_step + first, top, shift,
                    t.gradient + spot * t.gradient_step + first, part[0], part[1], part[2], width);
                if ((i - begin) % PART == PART - 1 || i == begin + n - 1)
                    for (int k = 0; k < 3; k++) add_parts(sums[k], part[k], width);
            }
            weights(sums[1], (float)n, power, weight, width);
            list_terms(sums[0], sums[1], sums[2], weight, width);
            add_to(value + first, sums[2], width);
            for (int64_t i = begin; i < begin + n; i++) {
                const int64_t spot = spot_at(order, i);
                softmax_gradient(
                    t.counts + spot * t.counts_step + first, sums[0], sums[1],
                    t.gradient + spot * t.gradient_step + first, width);
            }
        }
    }
}

INLINE void targets(
    Row s, Row c, float factor, float *restrict y, float *restrict x_sum, float *restrict y_sum,
    float *restrict depth, float *restrict x_low, float *restrict x_high, float *restrict y_low,
    float *restrict y_high, int64_t width) {
    for (int64_t g = 0; g < width; g++) {
        const float x = s[g], y_ = log1p_of(c[g] * factor);
        y[g] = y_;
        x_sum[g] += x;
        y_sum[g] += y_;
        depth[g] += c[g];
        x_low[g] = x < x_low[g] ? x : x_low[g]; /* NaN is in neither extreme but in the sums, where it shows */
        x_high[g] = x > x_high[g] ? x : x_high[g];
        y_low[g] = y_ < y_low[g] ? y_ : y_low[g];
        y_high[g] = y_ > y_high[g] ? y_ : y_high[g];
    }
}

INLINE float varies(float low, float high) { /* 0 or 1: as groups.varies */
    const float largest = fabsf(low) > fabsf(high) ? fabsf(low) : fabsf(high);
    const float constant = high - low <= LAST_PLACES * FLT_EPSILON * largest ? 1.0f : 0.0f;
    return largest <= FLT_MAX ? 1.0f - constant : 1.0f;
}

INLINE void both_vary(
    Row x_low, Row x_high, Row y_low, Row y_high, float n_spots, float *restrict there, int64_t width) {
    for (int64_t g = 0; g < width; g++)
        there[g] = n_spots < FEWEST ? 0.0f : varies(x_low[g], x_high[g]) * varies(y_low[g], y_high[g]);
}

INLINE void moments(
    Row s, Row y, Row x_mean, Row y_mean, float *restrict xx, float *restrict yy, float *restrict xy,
    float *restrict x_rest, float *restrict y_rest, int64_t width) {
    for (int64_t g = 0; g < width; g++) {
        const float x = s[g] - x_mean[g], y_ = y[g] - y_mean[g];
        x_rest[g] += x;
        y_rest[g] += y_;
        xx[g] += x * x;
        yy[g] += y_ * y_;
        xy[g] += x * y_;
    }
}

INLINE void centre(
    float *restrict xx, float *restrict yy, float *restrict xy, float *restrict x_rest, float *restrict y_rest,
    float n_spots, int64_t width) {
    for (int64_t g = 0; g < width; g++) { /* what the rounded means left over: a small spread would not survive it */
        const float x = x_rest[g] / n_spots, y = y_rest[g] / n_spots;
        xx[g] -= x_rest[g] * x;
        yy[g] -= y_rest[g] * y;
        xy[g] -= x_rest[g] * y;
        x_rest[g] = x;
        y_rest[g] = y;
    }
}

INLINE void correlation_terms(
    float *restrict xx, float *restrict yy, float *restrict xy, Row x_rest, Row y_rest, Row there, Row weight,
    float *restrict shift, int64_t width) {
    for (int64_t g = 0; g < width; g++) { /* -> factors of scores and targets, loss, what the means' rests add */
        const float x_scale = 1.0f / sqrtf(there[g] == 0.0f ? 1.0f : xx[g]);
        const float y_scale = 1.0f / sqrtf(there[g] == 0.0f ? 1.0f : yy[g]);
        const float r = xy[g] * x_scale * y_scale, w = there[g] == 0.0f ? 0.0f : weight[g];
        xx[g] = w * r * x_scale * x_scale;
        yy[g] = w * x_scale * y_scale;
        xy[g] = w * (1.0f - r);
        shift[g] = x_rest[g] * xx[g] - y_rest[g] * yy[g];
    }
}

INLINE void correlation_gradient(
    Row s, Row x_mean, Row y_mean, Row a, Row b, Row shift, float *restrict y, int64_t width) {
    for (int64_t g = 0; g < width; g++) y[g] = (s[g] - x_mean[g]) * a[g] - (y[g] - y_mean[g]) * b[g] - shift[g];
}

/* 1 - r of scores and log1p(counts x factor) by list; `defined` [gene] counts the lists where r exists. */
EVERY_CPU void strank_pearson(
    const Tables *tables, const int64_t *order, const int64_t *lengths, int64_t n_lists, const float *factor,
    float power, int64_t n_genes, double *value, double *defined) {
    const Tables t = *tables;
    float sums[5][WIDEST], part[5][WIDEST] = {{0}}, low[2][WIDEST], high[2][WIDEST];
    float x_mean[WIDEST], y_mean[WIDEST], weight[WIDEST], there[WIDEST], shift[WIDEST];
    for (int64_t list = 0, begin = 0; list < n_lists; begin += lengths[list++]) {
        const int64_t n = lengths[list], block = block_width(n);
        for (int64_t first = 0; first < n_genes; first += block) {
            const int64_t width = least(block, n_genes - first);
            for (int k = 0; k < 3; k++) memset(sums[k], 0, (size_t)width * sizeof(float));
            for (int k = 0; k < 2; k++)
                for (int64_t g = 0; g < width; g++) low[k][g] = INFINITY, high[k][g] = -INFINITY;
            for (int64_t i = begin; i < begin + n; i++) {
                const int64_t spot = spot_at(order, i);
                targets(
                    t.scores + spot * t.scores_step + first, t.counts + spot * t.counts_step + first,
                    factor ? factor[spot] : 1.0f, t.gradient + spot * t.gradient_step + first,
                    part[0], part[1], part[2], low[0], high[0], low[1], high[1], width);
                if ((i - begin) % PART == PART - 1 || i == begin + n - 1)
                    for (int k = 0; k < 3; k++) add_parts(sums[k], part[k], width);
            }
            both_vary(low[0], high[0], low[1], high[1], (float)n, there, width);
            means(sums[0], (float)n, x_mean, width);
            means(sums[1], (float)n, y_mean, width);
            weights(sums[2], (float)n, power, weight, width);
            for (int k = 0; k < 5; k++) memset(sums[k], 0, (size_t)width * sizeof(float));
            for (int64_t i = begin; i < begin + n; i++) {
                const int64_t spot = spot_at(order, i);
                moments(
                    t.scores + spot * t.scores_step + first, t.gradient + spot * t.gradient_step + first,
                    x_mean, y_mean, part[0], part[1], part[2], part[3], part[4], width);
                if ((i - begin) % PART == PART - 1 || i == begin + n - 1)
                    for (int k = 0; k < 5; k++) add_parts(sums[k], part[k], width);
            }
            centre(sums[0], sums[1], sums[2], sums[3], sums[4], (float)n, width);
            correlation_terms(sums[0], sums[1], sums[2], sums[3], sums[4], there, weight, shift, width);
            add_to(value + first, sums[2], width);
            add_to(defined + first, there, width);
            for (int64_t i = begin; i < begin + n; i++) {
                const int64_t spot = spot_at(order, i);
                correlation_gradient(
                    t.scores + spot * t.scores_step + first, x_mean, y_mean, sums[0], sums[1], shift,
                    t.gradient + spot * t.gradient_step + first, width);
            }
        }
    }
}

/* One pair of spots over some genes; a function of its own so that the compiler believes that nothing overlaps. */
INLINE void pair_of_spots(
    Row s, Row s_, Row c, Row c_, float *restrict up, float *restrict down, float *restrict loss,
    float shift, float power, int weighted, int64_t width) {
    for (int64_t g = 0; g < width; g++) {
        const float gap = s[g] - s_[g] + shift, e = exp_of(-fabsf(gap)), tail = log1p_of(e);
        const float over = gap > 0.0f ? gap : 0.0f, above = gap > 0.0f ? 1.0f : e, p = above / (1.0f + e);
        const float w = weighted ? list_weight((c[g] + c_[g]) / 2, power) : 1.0f, slope = w * ((c[g] + c_[g]) * p - c[g]);
        loss[g] += w * (c[g] * (over - gap + tail) + c_[g] * (over + tail));
        up[g] += slope;
        down[g] -= slope;
    }
}

INLINE void spot_alone(Row s, Row c, float *restrict out, float *restrict loss, int64_t width) {
    for (int64_t g = 0; g < width; g++) { /* nothing, yet NaN that comes in stays visible */
        const float nothing = 0.0f * (s[g] + c[g]);
        loss[g] += nothing;
        out[g] += nothing;
    }
}

/* -(c log p + c' log(1 - p)) over pairs, p = sigmoid(s - s'); `partners` [n_partners, spot], itself for none. */
EVERY_CPU void strank_pairs(
    const Tables *tables, const int64_t *partners, int64_t n_partners, int64_t n_spots, const float *offset,
    float power, int64_t n_genes, double *value) {
    const Tables t = *tables;
    float part[WIDEST] = {0};
    const int64_t block = block_width(n_spots), n_pairs = n_partners * n_spots;
    for (int64_t first = 0; first < n_genes; first += block) {
        const int64_t width = least(block, n_genes - first);
        for (int64_t i = 0; i < n_spots; i++)
            memset(t.gradient + i * t.gradient_step + first, 0, (size_t)width * sizeof(float));
        for (int64_t at = 0; at < n_pairs; at++) {
            const int64_t i = at % n_spots, j = partners[at];
            Row s = t.scores + i * t.scores_step + first, s_ = t.scores + j * t.scores_step + first;
            Row c = t.counts + i * t.counts_step + first, c_ = t.counts + j * t.counts_step + first;
            float *up = t.gradient + i * t.gradient_step + first, *down = t.gradient + j * t.gradient_step + first;
            const float shift = offset ? offset[i] - offset[j] : 0.0f;
            if (i == j) spot_alone(s, c, up, part, width);
            if (i != j && power == 1.0f) pair_of_spots(s, s_, c, c_, up, down, part, shift, power, 0, width);
            if (i != j && power != 1.0f) pair_of_spots(s, s_, c, c_, up, down, part, shift, power, 1, width);
            if (at % PART == PART - 1 || at == n_pairs - 1)
                add_to(value + first, part, width), memset(part, 0, sizeof part);
        }
    }
}
