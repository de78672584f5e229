#include <stdint.h>

/* The entries of some genes of a sparse table, added to a table of zeros [spot, width]: spot i has those from begin[i]
   to end[i], and `place` says in which column a gene goes, -1 for none. */
#define FILL(name, Index, Value)                                                                                      \
    void name(                                                                                                        \
        const Index *indices, const Value *values, const int64_t *begin, const int64_t *end, int64_t n_spots,         \
        const int32_t *place, float *out, int64_t width) {                                                            \
        for (int64_t i = 0; i < n_spots; i++)                                                                         \
            for (int64_t at = begin[i]; at < end[i]; at++) {                                                          \
                const int32_t column = place[indices[at]];                                                            \
                if (column >= 0) out[i * width + column] += (float)values[at];                                        \
            }                                                                                                         \
    }

FILL(strank_fill_int32_float32, int32_t, float)
FILL(strank_fill_int32_float64, int32_t, double)
FILL(strank_fill_int32_int32, int32_t, int32_t)
FILL(strank_fill_int32_int64, int32_t, int64_t)
FILL(strank_fill_int64_float32, int64_t, float)
FILL(strank_fill_int64_float64, int64_t, double)
FILL(strank_fill_int64_int32, int64_t, int32_t)
FILL(strank_fill_int64_int64, int64_t, int64_t)
