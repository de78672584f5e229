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

/* The first entry of each spot at or behind each gene of `edges`, which ascend: found [n_edges, n_spots]. */
#define BOUNDS(name, Index)                                                                                           \
    void name(                                                                                                        \
        const Index *indices, const int64_t *start, int64_t n_spots, const int64_t *edges, int64_t n_edges,           \
        int64_t *found) {                                                                                             \
        for (int64_t i = 0; i < n_spots; i++) {                                                                       \
            int64_t low = start[i];                                                                                   \
            for (int64_t edge = 0; edge < n_edges; edge++) {                                                          \
                int64_t high = start[i + 1];                                                                          \
                while (low < high) {                                                                                  \
                    const int64_t middle = low + (high - low) / 2;                                                    \
                    if (indices[middle] < edges[edge]) low = middle + 1;                                              \
                    else high = middle;                                                                               \
                }                                                                                                     \
                found[edge * n_spots + i] = low;                                                                      \
            }                                                                                                         \
        }                                                                                                             \
    }

BOUNDS(strank_bounds_int32, int32_t)
BOUNDS(strank_bounds_int64, int64_t)
FILL(strank_fill_int32_float32, int32_t, float)
FILL(strank_fill_int32_float64, int32_t, double)
FILL(strank_fill_int32_int32, int32_t, int32_t)
FILL(strank_fill_int32_int64, int32_t, int64_t)
FILL(strank_fill_int64_float32, int64_t, float)
FILL(strank_fill_int64_float64, int64_t, double)
FILL(strank_fill_int64_int32, int64_t, int32_t)
FILL(strank_fill_int64_int64, int64_t, int64_t)
