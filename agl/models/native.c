/* Which units a dropout layer keeps: the draws of torch's own generator (MT19937), several at a time.

   A Mersenne Twister's state is renewed 624 words at once and every word is tempered on its own, both without a branch,
   so that a compiler lays them out for vectors. Two words make a number of 53 bits, the first one its upper part. */

#include <stdint.h>

#define VERSION 1 /* of this interface; dropout.py asks for the same */
#define WORDS 624
#define MIDDLE 397

#if defined(__GLIBC__) && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EVERY_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EVERY_CPU
#endif

int agl_dropout_version(void) { return VERSION; }

static inline uint32_t twist(uint32_t here, uint32_t next) {
    uint32_t mixed = (here & 0x80000000u) | (next & 0x7fffffffu);
    return (mixed >> 1) ^ ((0u - (next & 1u)) & 0x9908b0dfu);
}

EVERY_CPU static void renew(uint32_t *state) {
    for (int i = 0; i < WORDS - MIDDLE; i++) state[i] = state[i + MIDDLE] ^ twist(state[i], state[i + 1]);
    for (int i = WORDS - MIDDLE; i < WORDS - 1; i++)
        state[i] = state[i + MIDDLE - WORDS] ^ twist(state[i], state[i + 1]);
    state[WORDS - 1] = state[MIDDLE - 1] ^ twist(state[WORDS - 1], state[0]);
}

EVERY_CPU static void temper(const uint32_t *state, int64_t n, uint32_t *out) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t y = state[i];
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c5680u;
        y ^= (y << 15) & 0xefc60000u;
        out[i] = y ^ (y >> 18);
    }
}

EVERY_CPU static void compare(const uint32_t *words, int64_t n, uint64_t below, float kept, float *out) {
    for (int64_t i = 0; i < n; i++) {
        uint64_t number = ((uint64_t)(words[2 * i] & 0x1fffffu) << 32) | words[2 * i + 1];
        out[i] = number < below ? kept : 0.0f;
    }
}

/* out[i] = kept where a number of 53 bits is below `below`, else 0; `state` of 624 words and the `next` word that counts
   are those of the generator before, and after. */
void agl_dropout(uint32_t *state, int64_t *next, uint64_t below, float kept, float *out, int64_t n) {
    uint32_t words[WORDS + 1]; /* a first word may wait for its second */
    int64_t waiting = 0;
    while (n > 0) {
        if (*next == WORDS) {
            renew(state);
            *next = 0;
        }
        int64_t take = WORDS - *next, wanted = 2 * n - waiting;
        if (take > wanted) take = wanted;
        temper(state + *next, take, words + waiting);
        *next += take;
        int64_t have = waiting + take, done = have / 2;
        compare(words, done, below, kept, out);
        out += done;
        n -= done;
        waiting = have % 2;
        if (waiting) words[0] = words[have - 1];
    }
}
