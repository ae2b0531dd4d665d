// Matching pursuit on a CPU: the picks, and their gradient.
//
// The correlations c = D r of a token are kept in the cache over all its picks: a pick j with value
// v changes them by -v G[j], one row of the Gram matrix G = D D^T.  G and the first correlations
// come from rows rounded to 16 bits, whose dot products are exact in 32.  They only propose: what
// lies within the certified error of the largest is computed anew from the float32 rows, and the
// largest of those is the pick, as in the loop that multiplies densely each time.

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

enum {
    LANES = 16,    // 32-bit numbers of a vector, and latents of a packed block
    ROWS = 8,      // rows of a register tile
    PANEL = 32,    // columns of a register tile; d_sae is padded to a multiple
    TILE = 256,    // rows and columns of a cache tile of the Gram matrix
    TOKENS = 32,   // tokens whose first correlations are computed together
    GROUP = 128,   // correlations of which the maximum is remembered
    AHEAD = 2048,  // how far ahead of its use a row of the Gram matrix is asked for
    CANDIDATES = 256,
};

typedef int32_t ints __attribute__((vector_size(64)));

// acc + a[even] * b[even] + a[odd] * b[odd], where `pair` holds two 16-bit numbers of one row.
static inline ints dot2(ints acc, ints b, int32_t pair) {
#if defined(__AVX512VNNI__)
    return (ints)_mm512_dpwssd_epi32((__m512i)acc, _mm512_set1_epi32(pair), (__m512i)b);
#elif defined(__AVX512BW__)
    return acc + (ints)_mm512_madd_epi16(_mm512_set1_epi32(pair), (__m512i)b);
#elif defined(__AVX2__)
    union { ints all; __m256i half[2]; } u = {b}, s = {acc};
    __m256i a = _mm256_set1_epi32(pair);
    s.half[0] = _mm256_add_epi32(s.half[0], _mm256_madd_epi16(a, u.half[0]));
    s.half[1] = _mm256_add_epi32(s.half[1], _mm256_madd_epi16(a, u.half[1]));
    return s.all;
#else
    return acc + ((b << 16) >> 16) * (int32_t)(int16_t)pair + (b >> 16) * (pair >> 16);
#endif
}

// out[ROWS][PANEL] = rows[ROWS] . two packed blocks; `pairs` pairs of numbers per row.
static inline void tile(const int16_t *rows, const int16_t *packed, int64_t pairs,
                        ints out[ROWS][PANEL / LANES]) {
    const int32_t *a = (const int32_t *)rows;
    const ints *b0 = (const ints *)packed, *b1 = b0 + pairs;
    ints acc[ROWS][2] = {{{0}}};
    for (int64_t p = 0; p < pairs; p++) {
        ints left = b0[p], right = b1[p];
        for (int i = 0; i < ROWS; i++) {
            int32_t pair = a[i * pairs + p];
            acc[i][0] = dot2(acc[i][0], left, pair);
            acc[i][1] = dot2(acc[i][1], right, pair);
        }
    }
    memcpy(out, acc, sizeof acc);
}

static inline float dot(const float *a, const float *b, int64_t d) {
    float sum = 0;
    for (int64_t i = 0; i < d; i++) sum += a[i] * b[i];
    return sum;
}

static inline void add(float *to, float factor, const float *from, int64_t d) {
    for (int64_t i = 0; i < d; i++) to[i] += factor * from[i];
}

// Rounds `x * scale` to 16 bits, zero beyond d; returns the length of the rounding error.
static float quantise(const float *x, int64_t d, int64_t pairs, float scale, int16_t *out) {
    float error = 0, back = 1 / scale;
    for (int64_t i = 0; i < d; i++) {
        int32_t q = (int32_t)(x[i] * scale + (x[i] < 0 ? -0.5f : 0.5f));
        float e = x[i] - (float)q * back;
        error += e * e;
        out[i] = (int16_t)q;
    }
    for (int64_t i = d; i < 2 * pairs; i++) out[i] = 0;
    return sqrtf(error);
}

// The largest scale at which no number leaves 16 bits, and no dot product 32.
static float scale_for(float length, float largest) {
    float a = 46000 / fmaxf(length, FLT_MIN), b = 32700 / fmaxf(largest, FLT_MIN);
    return fminf(fminf(a, b), 1e30f);
}

static float largest_of(const float *x, int64_t d) {
    float m = 0;
    for (int64_t i = 0; i < d; i++) m = fmaxf(m, fabsf(x[i]));
    return m;
}

// Rows [F, d] to 16 bits, as they are (`rows [padded, 2 * pairs]`) and packed by blocks of 16.
// info: scale, longest row, longest rounding error.
void monosemy_prepare(const float *D, int64_t F, int64_t padded, int64_t d, int64_t pairs,
                      int16_t *rows, int16_t *packed, float *info, int threads) {
    float length = 0, largest = 0, error = 0;
#pragma omp parallel for num_threads(threads) reduction(max : length, largest)
    for (int64_t f = 0; f < F; f++) {
        length = fmaxf(length, sqrtf(dot(D + f * d, D + f * d, d)));
        largest = fmaxf(largest, largest_of(D + f * d, d));
    }
    float scale = scale_for(length, largest);
#pragma omp parallel for num_threads(threads) reduction(max : error)
    for (int64_t block = 0; block < padded / LANES; block++) {
        int32_t *to = (int32_t *)packed + block * LANES * pairs;
        for (int64_t lane = 0; lane < LANES; lane++) {
            int64_t f = block * LANES + lane;
            int16_t *row = rows + f * 2 * pairs;
            if (f < F) error = fmaxf(error, quantise(D + f * d, d, pairs, scale, row));
            else memset(row, 0, (size_t)pairs * 4);
            for (int64_t p = 0; p < pairs; p++) to[p * LANES + lane] = ((int32_t *)row)[p];
        }
    }
    info[0] = scale;
    info[1] = length;
    info[2] = error;
}

static void gram_tile(const int16_t *rows, const int16_t *packed, int64_t padded, int64_t pairs,
                      float factor, int64_t I, int64_t J, int16_t *G) {
    int64_t high = I + TILE < padded ? I + TILE : padded;
    int64_t wide = J + TILE < padded ? J + TILE : padded;
    // Rows a little apart from a power of two, or a column would fall into few sets of the cache.
    int16_t done[TILE][TILE + 2 * LANES];
    for (int64_t j = J; j < wide; j += PANEL)
        for (int64_t i = I; i < high; i += ROWS) {
            ints acc[ROWS][PANEL / LANES];
            tile(rows + i * 2 * pairs, packed + j * 2 * pairs, pairs, acc);
            const int32_t *sums = (const int32_t *)acc;
            for (int a = 0; a < ROWS; a++) {
                int16_t *to = &done[i - I + a][j - J];
                for (int b = 0; b < PANEL; b++) {
                    float g = (float)sums[a * PANEL + b] * factor;
                    to[b] = (int16_t)(int32_t)(g + (g < 0 ? -0.5f : 0.5f));
                }
            }
        }
    for (int64_t i = I; i < high; i++)
        memcpy(G + i * padded + J, done[i - I], (size_t)(wide - J) * 2);
    if (I == J) return;
    for (int64_t j = J; j < wide; j++)
        for (int64_t i = I; i < high; i++) G[j * padded + i] = done[i - I][j - J];
}

// G [padded, padded]: products of rows in units of `unit`, which is returned.
float monosemy_gram(const int16_t *rows, const int16_t *packed, int64_t padded, int64_t pairs,
                    const float *info, int16_t *G, int threads) {
    float unit = info[1] * info[1] / 32000, factor = 1 / (info[0] * info[0] * unit);
    int64_t side = (padded + TILE - 1) / TILE;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t t = 0; t < side * side; t++) {
        int64_t I = t / side, J = t % side;
        if (I <= J) gram_tile(rows, packed, padded, pairs, factor, I * TILE, J * TILE, G);
    }
    return unit;
}

typedef struct {
    const float *D;
    int64_t F, padded, d, pairs, steps;
    const int16_t *packed, *G;
    float scale, longest, rounding, unit;
} Dictionary;

static float group_max(const float *c, int64_t n) {
    float m = -FLT_MAX;
    for (int64_t i = 0; i < n; i++) m = c[i] > m ? c[i] : m;
    return m;
}

static void group_maxima(const Dictionary *k, const float *c, float *best) {
    for (int64_t g = 0; g < k->padded; g += GROUP)
        best[g / GROUP] = group_max(c + g, k->padded - g < GROUP ? k->padded - g : GROUP);
}

// c -= v * row, and the maximum of each group.
static void subtract(float *c, float *best, const int16_t *row, float v, int64_t padded) {
    for (int64_t g = 0; g < padded; g += GROUP) {
        int64_t n = padded - g < GROUP ? padded - g : GROUP;
        float m = -FLT_MAX;
        if (g + AHEAD < padded)
            for (int i = 0; i < GROUP; i += 32) __builtin_prefetch(row + g + AHEAD + i);
        for (int64_t i = g; i < g + n; i++) {
            float u = c[i] - v * (float)row[i];
            c[i] = u;
            m = u > m ? u : m;
        }
        best[g / GROUP] = m;
    }
}

// The exact best of all latents that may be it when each c is at most `off` off; -1 when they are
// too many.  Sets `wrong` where a c is further off: then G is not of this dictionary.
static int64_t choose(const Dictionary *k, const float *c, const float *best, const float *r,
                      float off, float *value, int *wrong) {
    int64_t groups = (k->padded + GROUP - 1) / GROUP, found = -1, seen = 0;
    float low = group_max(best, groups) - 2 * off;
    for (int64_t g = 0; g < groups; g++) {
        if (best[g] < low) continue;
        int64_t end = (g + 1) * GROUP < k->F ? (g + 1) * GROUP : k->F;
        for (int64_t i = g * GROUP; i < end; i++) {
            if (c[i] < low) continue;
            if (++seen > CANDIDATES) return -1;
            float v = dot(r, k->D + i * k->d, k->d);
            if (fabsf(v - c[i]) > off) *wrong = 1;
            if (found < 0 || v > *value) {
                found = i;
                *value = v;
            }
        }
    }
    return found;
}

// All correlations anew, in float32.
static int64_t refresh(const Dictionary *k, float *c, float *best, const float *r, float *value) {
    int64_t found = 0;
    for (int64_t i = 0; i < k->F; i++) {
        c[i] = dot(r, k->D + i * k->d, k->d);
        if (c[i] > c[found]) found = i;
    }
    group_maxima(k, c, best);
    *value = c[found];
    return found;
}

// All picks of one token.  c: its correlations; `error`: how far its rounding puts them off.
// Returns whether G was found to be of another dictionary.
static int pursue_token(const Dictionary *k, float *c, float *best, float error, float stop,
                        float *r, int64_t *indices, float *values) {
    float length = sqrtf(dot(r, r, k->d)), taken = 0, at_refresh = 0;
    int wrong = 0;
    float base = error * k->longest + 4e-6f * length * k->longest;
    group_maxima(k, c, best);
    for (int64_t t = 0; t < k->steps && length > 0; t++) {
        float v = 0, off = base + k->rounding * (length + at_refresh) +
                           taken * (k->longest * k->rounding + k->unit);
        int64_t pick = choose(k, c, best, r, off, &v, &wrong);
        if (pick < 0) {
            pick = refresh(k, c, best, r, &v);
            base = 4e-6f * length * k->longest;
            taken = 0;
            at_refresh = length;
        }
        if (!(v > 0)) break;
        indices[t] = pick;
        values[t] = v;
        add(r, -v, k->D + pick * k->d, k->d);
        length = sqrtf(dot(r, r, k->d));
        taken += v;
        if (length <= stop || t + 1 == k->steps) break;
        subtract(c, best, k->G + pick * k->padded, v * k->unit, k->padded);
    }
    return wrong;
}

// Correlations of up to TOKENS tokens from their rounded values: c [TOKENS, padded].
static void correlate(const Dictionary *k, const int16_t *q, const float *scales, int64_t tokens,
                      float *c) {
    for (int64_t j = 0; j < k->padded; j += PANEL)
        for (int64_t i = 0; i < tokens; i += ROWS) {
            ints acc[ROWS][PANEL / LANES];
            tile(q + i * 2 * k->pairs, k->packed + j * 2 * k->pairs, k->pairs, acc);
            const int32_t *sums = (const int32_t *)acc;
            for (int64_t a = 0; a < ROWS && i + a < tokens; a++) {
                float back = 1 / (scales[i + a] * k->scale), *to = c + (i + a) * k->padded + j;
                for (int b = 0; b < PANEL; b++) to[b] = (float)sums[a * PANEL + b] * back;
            }
        }
    for (int64_t i = 0; i < tokens; i++)  // what fills up d_sae is never picked
        for (int64_t j = k->F; j < k->padded; j++) c[i * k->padded + j] = -1e30f;
}

// Up to TOKENS tokens with G: their first correlations together, then one token after the other.
static int pursue_tokens(const Dictionary *k, int16_t *q, float *c, float *best, int64_t tokens,
                         const float *stop, float *residual, int64_t *indices, float *values) {
    float scales[TOKENS], errors[TOKENS];
    int wrong = 0;
    for (int64_t i = 0; i < tokens; i++) {
        const float *x = residual + i * k->d;
        scales[i] = scale_for(sqrtf(dot(x, x, k->d)), largest_of(x, k->d));
        errors[i] = quantise(x, k->d, k->pairs, scales[i], q + i * 2 * k->pairs);
    }
    correlate(k, q, scales, tokens, c);
    for (int64_t i = 0; i < tokens; i++)
        wrong |= pursue_token(k, c + i * k->padded, best, errors[i], stop ? stop[i] : 0,
                              residual + i * k->d, indices + i * k->steps, values + i * k->steps);
    return wrong;
}

// The same for up to TOKENS tokens together without G: all correlations anew for every pick.
static int pursue_block(const Dictionary *k, int16_t *q, float *c, float *best, int64_t tokens,
                        const float *stop, float *residual, int64_t *indices, float *values) {
    int64_t live[TOKENS], count = 0;
    float scales[TOKENS], errors[TOKENS], lengths[TOKENS];
    int wrong = 0;
    for (int64_t i = 0; i < tokens; i++) {
        lengths[i] = sqrtf(dot(residual + i * k->d, residual + i * k->d, k->d));
        if (lengths[i] > 0) live[count++] = i;
    }
    for (int64_t t = 0; t < k->steps && count; t++) {
        int64_t going = 0;
        for (int64_t a = 0; a < count; a++) {
            const float *r = residual + live[a] * k->d;
            scales[a] = scale_for(lengths[live[a]], largest_of(r, k->d));
            errors[a] = quantise(r, k->d, k->pairs, scales[a], q + a * 2 * k->pairs);
        }
        correlate(k, q, scales, count, c);
        for (int64_t a = 0; a < count; a++) {
            int64_t i = live[a];
            float *r = residual + i * k->d, *mine = c + a * k->padded, v = 0;
            float off = (errors[a] + 4e-6f * lengths[i]) * k->longest + k->rounding * lengths[i];
            group_maxima(k, mine, best);
            int64_t pick = choose(k, mine, best, r, off, &v, &wrong);
            if (pick < 0) pick = refresh(k, mine, best, r, &v);
            if (!(v > 0)) continue;
            indices[i * k->steps + t] = pick;
            values[i * k->steps + t] = v;
            add(r, -v, k->D + pick * k->d, k->d);
            lengths[i] = sqrtf(dot(r, r, k->d));
            if (lengths[i] > (stop ? stop[i] : 0)) live[going++] = i;
        }
        count = going;
    }
    return wrong;
}

// Residuals [n, d] hold x and become what is left; indices and values [n, steps] come in as zeros.
// G may be NULL: a dense product per pick is then as exact, slower for many picks, and small.
// Returns 0, or 1 when memory ran out, or 2 when `packed` or G is not of this dictionary.
int monosemy_pursue(const float *D, int64_t F, int64_t padded, int64_t d, int64_t pairs,
                    const int16_t *packed, const int16_t *G, const float *info, float unit,
                    int64_t n, int64_t steps, const float *stop, float *residual,
                    int64_t *indices, float *values, int threads) {
    Dictionary k = {D, F, padded, d, pairs, steps, packed, G, info[0], info[1], info[2], unit};
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *c = NULL, *best = malloc(sizeof(float) * (size_t)(padded / GROUP + 1));
        int16_t *q = calloc(TOKENS, (size_t)pairs * 4);
        if (posix_memalign((void **)&c, 64, sizeof(float) * TOKENS * (size_t)padded)) c = NULL;
        failed = !c || !best || !q;
#pragma omp for schedule(dynamic)
        for (int64_t start = 0; start < n; start += TOKENS) {
            if (failed & 1) continue;
            int64_t tokens = n - start < TOKENS ? n - start : TOKENS;
            const float *limit = stop ? stop + start : NULL;
            int wrong = (G ? pursue_tokens : pursue_block)(
                &k, q, c, best, tokens, limit, residual + start * d, indices + start * steps,
                values + start * steps);
            failed |= wrong ? 2 : 0;
        }
        free(c);
        free(best);
        free(q);
    }
    return failed;
}
