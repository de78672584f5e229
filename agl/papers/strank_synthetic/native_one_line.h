/* One hidden layer: its one line is the score, without ReLU; sums in double cost nothing here. */

#ifndef AGL_NATIVE_ONE_LINE_H
#define AGL_NATIVE_ONE_LINE_H

#include "native_network.h"

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

#endif
