#include <stdint.h>
#include <string.h>

/* Spots list after list by counting: their order and the length of each list. The codes may be any `n_places`
   neighbouring numbers; returns how many lists there are, -1 if the codes lie further apart. */
int64_t strank_line_up(
    const int64_t *codes, const unsigned char *keep, int64_t n_spots, int64_t n_places, int64_t *places,
    int64_t *order, int64_t *lengths) {
    int64_t low = INT64_MAX, high = INT64_MIN, n_lists = 0, start = 0;
    for (int64_t i = 0; i < n_spots; i++)
        if (!keep || keep[i]) {
            low = codes[i] < low ? codes[i] : low;
            high = codes[i] > high ? codes[i] : high;
        }
    if (low > high) return 0;
    if ((uint64_t)high - (uint64_t)low >= (uint64_t)n_places) return -1;
    memset(places, 0, (size_t)n_places * sizeof(int64_t));
    for (int64_t i = 0; i < n_spots; i++)
        if (!keep || keep[i]) places[codes[i] - low]++;
    for (int64_t code = 0; code <= high - low; code++) {
        const int64_t length = places[code];
        if (length) lengths[n_lists++] = length;
        places[code] = start;
        start += length;
    }
    for (int64_t i = 0; i < n_spots; i++)
        if (!keep || keep[i]) order[places[codes[i] - low]++] = i;
    return n_lists;
}
