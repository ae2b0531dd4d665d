/* The entries of pre-activations plus a bias that are above a limit, row by row.
 *
 * Two passes over the memory: how many each row has, then, when the caller has made room, which.
 * Few blocks of 16 hold one, so nearly all of the time of either pass is one comparison an entry.
 * Rows do not depend on each other, nor results on the number of threads.  A row never writes more
 * than was counted, nor, where one is a NaN, are the two passes held to agree.
 */
#include <stdint.h>

#define BLOCK 16

static inline float widened(uint16_t half)
{
    union { uint32_t bits; float value; } both = { (uint32_t)half << 16 };
    return both.value;
}

#define WIDE(j) (pre[j] + bias[j])
#define NARROW(j) (widened(pre[j]) + bias[j])

#define COUNT(NAME, TYPE, ENTRY)                                                         \
    void NAME(const TYPE *all, const float *bias, const float *limit, int64_t n,         \
              int64_t width, int64_t *counts, int threads)                               \
    {                                                                                    \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                \
        for (int64_t row = 0; row < n; row++) {                                          \
            const TYPE *pre = all + row * width;                                         \
            int32_t count = 0;                                                           \
            for (int64_t j = 0; j < width; j++) count += ENTRY(j) > limit[j];            \
            counts[row] = count;                                                         \
        }                                                                                \
    }

#define TAKE(NAME, TYPE, ENTRY)                                                          \
    void NAME(const TYPE *all, const float *bias, const float *limit, int64_t n,         \
              int64_t width, const int64_t *ends, int64_t *rows, int64_t *latents,       \
              float *values, int threads)                                                \
    {                                                                                    \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                \
        for (int64_t row = 0; row < n; row++) {                                          \
            const TYPE *pre = all + row * width;                                         \
            int64_t at = row ? ends[row - 1] : 0;                                        \
            for (int64_t from = 0; from < width && at < ends[row]; from += BLOCK) {      \
                int64_t to = from + BLOCK < width ? from + BLOCK : width;                \
                int any = 0;                                                             \
                if (to - from == BLOCK)                                                  \
                    for (int i = 0; i < BLOCK; i++)                                      \
                        any |= ENTRY(from + i) > limit[from + i];                        \
                else                                                                     \
                    any = 1;                                                             \
                if (!any) continue;                                                      \
                for (int64_t j = from; j < to; j++)                                      \
                    if (ENTRY(j) > limit[j] && at < ends[row]) {                         \
                        rows[at] = row;                                                  \
                        latents[at] = j;                                                 \
                        values[at++] = ENTRY(j);                                         \
                    }                                                                    \
            }                                                                            \
        }                                                                                \
    }

COUNT(count_f32, float, WIDE)
COUNT(count_bf16, uint16_t, NARROW)
TAKE(take_f32, float, WIDE)
TAKE(take_bf16, uint16_t, NARROW)
