/* What the walks of native.c share: a network, its knots in order, and which units are active left of them. */

#ifndef AGL_NATIVE_NETWORK_H
#define AGL_NATIVE_NETWORK_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

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

#endif
