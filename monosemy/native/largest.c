/* The k largest entries of each row of pre-activations plus a bias, in one pass over the memory.
 *
 * A heap of the k best so far has the smallest of them at its root.  Blocks of 16 entries are
 * compared with the root at once; after the first few hundred entries hardly any block holds a
 * larger one, so nearly all of the time is that comparison.  Rows do not depend on each other, nor
 * results on the number of threads.  A NaN among the first k stays, so that it is seen.
 */
#include <stdint.h>

#define BLOCK 16

static inline float widened(uint16_t half)
{
    union { uint32_t bits; float value; } both = { (uint32_t)half << 16 };
    return both.value;
}

static void sift(float *values, int64_t *indices, int64_t k, int64_t at)
{
    float value = values[at];
    int64_t index = indices[at];
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= k) break;
        if (child + 1 < k && values[child + 1] < values[child]) child++;
        if (!(values[child] < value)) break;
        values[at] = values[child];
        indices[at] = indices[child];
        at = child;
    }
    values[at] = value;
    indices[at] = index;
}

/* One row, whose entries the macro ENTRY(j) gives. */
#define ROW(ENTRY)                                                                   \
    for (int64_t j = 0; j < k; j++) {                                                \
        values[j] = ENTRY(j);                                                        \
        indices[j] = j;                                                              \
    }                                                                                \
    for (int64_t j = k / 2; j-- > 0;) sift(values, indices, k, j);                   \
    int64_t j = k;                                                                   \
    for (; j + BLOCK <= width; j += BLOCK) {                                         \
        float block[BLOCK];                                                          \
        float root = values[0];                                                      \
        int any = 0;                                                                 \
        for (int i = 0; i < BLOCK; i++) {                                            \
            block[i] = ENTRY(j + i);                                                 \
            any |= block[i] > root;                                                  \
        }                                                                            \
        if (!any) continue;                                                          \
        for (int i = 0; i < BLOCK; i++)                                              \
            if (block[i] > values[0]) {                                              \
                values[0] = block[i];                                                \
                indices[0] = j + i;                                                  \
                sift(values, indices, k, 0);                                         \
            }                                                                        \
    }                                                                                \
    for (; j < width; j++)                                                           \
        if (ENTRY(j) > values[0]) {                                                  \
            values[0] = ENTRY(j);                                                    \
            indices[0] = j;                                                          \
            sift(values, indices, k, 0);                                             \
        }

#define WIDE(j) (pre[j] + bias[j])
#define NARROW(j) (widened(pre[j]) + bias[j])

void largest_f32(const float *all, const float *bias, int64_t n, int64_t width, int64_t k,
                 float *out_values, int64_t *out_indices, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < n; row++) {
        const float *pre = all + row * width;
        float *values = out_values + row * k;
        int64_t *indices = out_indices + row * k;
        ROW(WIDE)
    }
}

void largest_bf16(const uint16_t *all, const float *bias, int64_t n, int64_t width, int64_t k,
                  float *out_values, int64_t *out_indices, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < n; row++) {
        const uint16_t *pre = all + row * width;
        float *values = out_values + row * k;
        int64_t *indices = out_indices + row * k;
        ROW(NARROW)
    }
}
