/* The networks of networks.py, in float32: knots and spots walked together, one network after another.

   Between two neighbouring knots every line is z = A x + B. A and B stay in registers while the walk goes from left to
   right: a knot adds a unit to them or takes it away, a spot reads them. The way back is the same walk with the sums of
   the gradient, once from the left for units that are active left of their knot and once from the right for the others,
   so that a unit no spot reaches gets exactly 0. */

#include "native_one_line.h"
#include "native_wide.h"

#define VERSION 1 /* of this interface; native.py asks for the same */

#if defined(__GLIBC__) && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EVERY_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EVERY_CPU
#endif

typedef struct { /* where spot i of run r lies in a table: data[r * run + places[i] * spot] */
    float *data;
    int64_t run, spot;
} Table;

int agl_networks_version(void) { return VERSION; }

/* Floats of working memory for one thread. */
int64_t agl_networks_room(const Networks *n) {
    return n->units + n->spots * (LANES + 1) + 2 * n->units * LANES + 2 * (n->units + 1) * WIDE + 16 * LANES;
}

/* scores = f(x) for the runs `begin` to `end`; x [run, spot] rises, `places` says where each spot goes. */
EVERY_CPU void agl_networks_forward(
    const Networks *all, const float *rising, const int64_t *places, Table scores, int64_t begin, int64_t end,
    float *room) {
    float *knots = room, *sums = knots + all->units;
    for (int64_t run = begin; run < end; run++) {
        const Network n = network_of(all, run);
        const float *x = rising + run * all->spots;
        sort_knots(n, all->units, knots);
        if (all->v) memset(sums, 0, (size_t)(all->spots * LANES) * sizeof(float));
        else scores_of_one_line(n, all, x, knots, sums);
        int64_t first = all->v ? 0 : all->lines;
        for (; first + WIDE <= all->lines; first += WIDE) scores_of_lines(n, all, first, WIDE, x, knots, sums);
        if (first < all->lines) scores_of_lines(n, all, first, all->lines - first, x, knots, sums);
        for (int64_t spot = 0; spot < all->spots; spot++)
            scores.data[run * scores.run + places[run * all->spots + spot] * scores.spot] =
                all->v ? total(sums + spot * LANES) + n.d[0] : sums[spot];
    }
}

/* The gradient of every parameter from that of the scores. */
EVERY_CPU void agl_networks_backward(
    const Networks *all, const float *rising, const int64_t *places, Table gradient, int64_t begin, int64_t end,
    float *room) {
    const int64_t units = all->units, spots = all->spots;
    float *knots = room, *g = knots + units, *w_ = g + spots, *b_ = w_ + units * LANES, *intervals = b_ + units * LANES;
    for (int64_t run = begin; run < end; run++) {
        const Network n = network_of(all, run);
        const float *x = rising + run * spots;
        sort_knots(n, units, knots);
        double d_ = 0;
        for (int64_t spot = 0; spot < spots; spot++) {
            g[spot] = gradient.data[run * gradient.run + places[run * spots + spot] * gradient.spot];
            d_ += g[spot];
        }
        if (!all->v) {
            gradient_of_one_line(n, all, x, g, knots);
            continue;
        }
        n.d_[0] = (float)d_;
        memset(w_, 0, (size_t)(2 * units * LANES) * sizeof(float));
        int64_t first = 0;
        for (; first + WIDE <= all->lines; first += WIDE)
            gradient_of_lines(n, all, first, WIDE, x, g, knots, w_, b_, intervals);
        if (first < all->lines)
            gradient_of_lines(n, all, first, all->lines - first, x, g, knots, w_, b_, intervals);
        for (int64_t unit = 0; unit < units; unit++) {
            n.w_[unit] = total(w_ + unit * LANES);
            n.b_[unit] = total(b_ + unit * LANES);
        }
    }
}
