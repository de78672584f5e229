/* What the compiled losses share: tables, and a way to build for every CPU. */

#ifndef STRANK_NATIVE_H
#define STRANK_NATIVE_H

#include <stdint.h>

#if defined(__GLIBC__) && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EVERY_CPU __attribute__((target_clones("avx512f", "avx2", "default"))) /* by feature; arch= asks for a model */
#else
#define EVERY_CPU
#endif

typedef const float *restrict Row;

typedef struct { /* [spot, gene] each, with what lies between two spots */
    const float *scores, *counts;
    float *gradient;
    int64_t scores_step, counts_step, gradient_step;
} Tables;

#endif
