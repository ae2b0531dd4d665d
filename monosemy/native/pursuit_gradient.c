// The gradient of matching pursuit on a CPU: the recursion of gradients() in saes/pursuit.py.

#include <stdint.h>
#include <stdlib.h>

static inline float dot(const float *a, const float *b, int64_t d) {
    float sum = 0;
    for (int64_t i = 0; i < d; i++) sum += a[i] * b[i];
    return sum;
}

// One token in reverse: g and r are overwritten, g becomes dL/dx, and
// updates [steps, d] is what each pick adds to the gradient of its row.
static void reverse_token(const float *D, int64_t d, int64_t steps, const int64_t *indices,
                          const float *values, const float *d_values, float *g, float *r,
                          float *updates) {
    for (int64_t t = steps - 1; t >= 0; t--) {
        float v = values[t], *u = updates + t * d;
        if (!(v > 0)) continue;
        const float *row = D + indices[t] * d;
        float gv = (d_values ? d_values[t] : 0) - dot(g, row, d);
        for (int64_t i = 0; i < d; i++) {
            float back = r[i] + v * row[i];
            r[i] = back;
            u[i] = gv * back - v * g[i];
            g[i] += gv * row[i];
        }
    }
}

typedef struct { int64_t latent, pick; } Entry;

static int by_latent(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->latent != y->latent) return x->latent < y->latent ? -1 : 1;
    return x->pick < y->pick ? -1 : x->pick > y->pick;
}

// g [n, d] holds dL/d residual and becomes dL/dx; residual is overwritten; d_rows [F, d] is added
// to, latent by latent in the order of the tokens: the same bits for any number of threads.
int monosemy_reverse(const float *D, int64_t d, int64_t n, int64_t steps, const int64_t *indices,
                     const float *values, const float *d_values, float *residual, float *g,
                     float *d_rows, int64_t chunk, int threads) {
    float *updates = malloc(sizeof(float) * (size_t)(chunk * steps * d));
    Entry *entries = malloc(sizeof(Entry) * (size_t)(chunk * steps));
    if (!updates || !entries) {
        free(updates);
        free(entries);
        return 1;
    }
    for (int64_t start = 0; start < n; start += chunk) {
        int64_t tokens = n - start < chunk ? n - start : chunk, count = 0;
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t i = 0; i < tokens; i++) {
            int64_t at = start + i;
            reverse_token(D, d, steps, indices + at * steps, values + at * steps,
                          d_values ? d_values + at * steps : NULL, g + at * d, residual + at * d,
                          updates + i * steps * d);
        }
        for (int64_t p = 0; p < tokens * steps; p++)
            if (values[start * steps + p] > 0)
                entries[count++] = (Entry){indices[start * steps + p], p};
        qsort(entries, (size_t)count, sizeof(Entry), by_latent);
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t part = 0; part < threads; part++) {
            int64_t from = count * part / threads, to = count * (part + 1) / threads;
            // A latent belongs to the part in which its first entry lies.
            while (from > 0 && from < count && entries[from].latent == entries[from - 1].latent)
                from++;
            while (to > 0 && to < count && entries[to].latent == entries[to - 1].latent) to++;
            for (int64_t e = from; e < to; e++) {
                float *sum = d_rows + entries[e].latent * d, *u = updates + entries[e].pick * d;
                for (int64_t i = 0; i < d; i++) sum[i] += u[i];
            }
        }
    }
    free(updates);
    free(entries);
    return 0;
}
