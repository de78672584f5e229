/* The networks of networks.py, in float32: knots and spots walked together, one network after another.

   Between two neighbouring knots every line is z = A x + B. A and B stay in registers while the walk goes from left to
   right: a knot adds a unit to them or takes it away, a spot reads them. No table of intervals is stored. The way back
   is the same walk with the sums of the gradient, once from the left for units that are active left of their knot and
   once from the right for the others, so that a unit no spot reaches gets exactly 0. Lines are taken WIDE at a time. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define VERSION 1
#define LANES 16
#define WIDE (2 * LANES)
#define INLINE static inline __attribute__((always_inline))

#if defined(__GLIBC__) && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EVERY_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EVERY_CPU
#endif

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));
typedef float Four __attribute__((vector_size(16)));
typedef struct { Lanes first, second; } Wide;

typedef struct { /* of one network; W [unit, line], and the gradients alike */
    const float *w, *b, *W, *c, *v, *d;
    float *w_, *b_, *W_, *c_, *v_, *d_;
    int32_t *order; /* [unit] units by rising knot; what the last step left makes sorting short */
} Network;

typedef struct { /* [run, ...] each, as Network; v and d are NULL for one hidden layer */
    const float *w, *b, *W, *c, *v, *d;
    float *w_, *b_, *W_, *c_, *v_, *d_;
    int32_t *order;
    int64_t units, lines, spots;
} Networks;

typedef struct { /* where spot i of run r lies in a table: data[r * run + places[i] * spot] */
    float *data;
    int64_t run, spot;
} Table;

int agl_networks_version(void) { return VERSION; }

/* Floats of working memory for one thread. */
int64_t agl_networks_room(const Networks *n) {
    return n->units + n->spots * (LANES + 1) + 2 * n->units * LANES + 2 * (n->units + 1) * WIDE + 16 * LANES;
}

INLINE Network network_of(const Networks *n, int64_t run) {
    const int64_t units = run * n->units, lines = run * n->lines, all = units * n->lines;
    return (Network){
        n->w + units, n->b + units, n->W + all, n->c + lines, n->v ? n->v + lines : 0, n->d ? n->d + run : 0,
        n->w_ + units, n->b_ + units, n->W_ + all, n->c_ + lines, n->v_ ? n->v_ + lines : 0, n->d_ ? n->d_ + run : 0,
        n->order + units};
}

/* -b / w in rising order, equal ones by unit. A unit without a slope never switches: its knot may lie anywhere. A NaN
   switches before every spot, so that it is seen. */
INLINE void sort_knots(Network n, int64_t units, float *knots) {
    for (int64_t i = 0; i < units; i++) {
        const int32_t unit = n.order[i];
        float knot = -n.b[unit] / n.w[unit];
        knot = knot == knot ? knot : -INFINITY;
        int64_t at = i;
        for (; at > 0 && (knots[at - 1] > knot || (knots[at - 1] == knot && n.order[at - 1] > unit)); at--) {
            knots[at] = knots[at - 1];
            n.order[at] = n.order[at - 1];
        }
        knots[at] = knot;
        n.order[at] = unit;
    }
}

INLINE int from_left(Network n, int64_t unit) { return n.w[unit] < 0 || (n.w[unit] == 0 && n.b[unit] > 0); }
INLINE float sign(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f * x; }

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

/* One hidden layer: its one line is the score, without ReLU. */

INLINE void scores_of_one_line(Network n, const Networks *all, const float *x, const float *knots, float *out) {
    double slope = 0, start = n.c[0];
    for (int64_t unit = 0; unit < all->units; unit++)
        if (from_left(n, unit)) slope += n.w[unit] * n.W[unit], start += n.b[unit] * n.W[unit];
    for (int64_t knot = 0, spot = 0; knot <= all->units; knot++) {
        for (; spot < all->spots && (knot == all->units || x[spot] < knots[knot]); spot++)
            out[spot] = (float)(start + slope * x[spot]);
        if (knot == all->units) break;
        const int64_t unit = n.order[knot];
        const float up = sign(n.w[unit]) * n.W[unit];
        slope += up * n.w[unit];
        start += up * n.b[unit];
    }
}

INLINE void unit_of_one_line(Network n, int64_t unit, double plain, double by_x) {
    n.W_[unit] = (float)(n.w[unit] * by_x + n.b[unit] * plain);
    n.w_[unit] = (float)(n.W[unit] * by_x);
    n.b_[unit] = (float)(n.W[unit] * plain);
}

INLINE void gradient_of_one_line(Network n, const Networks *all, const float *x, const float *g, const float *knots) {
    const int64_t units = all->units;
    double plain = 0, by_x = 0;
    for (int64_t knot = 0, spot = 0; knot <= units; knot++) {
        for (; spot < all->spots && (knot == units || x[spot] < knots[knot]); spot++)
            plain += g[spot], by_x += (double)g[spot] * x[spot];
        if (knot < units && n.w[n.order[knot]] < 0) unit_of_one_line(n, n.order[knot], plain, by_x);
    }
    n.c_[0] = (float)plain;
    for (int64_t unit = 0; unit < units; unit++)
        if (!(n.w[unit] < 0) && !(n.w[unit] > 0))
            unit_of_one_line(n, unit, from_left(n, unit) ? plain : 0, from_left(n, unit) ? by_x : 0);
    plain = by_x = 0;
    for (int64_t knot = units - 1, spot = all->spots - 1; knot >= 0; knot--) {
        for (; spot >= 0 && !(x[spot] < knots[knot]); spot--)
            plain += g[spot], by_x += (double)g[spot] * x[spot];
        if (n.w[n.order[knot]] > 0) unit_of_one_line(n, n.order[knot], plain, by_x);
    }
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
