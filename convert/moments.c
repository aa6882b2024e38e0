/* moments.c - accumulates S += x^T x over blocks of rows x [256, d], per modality. The product of a
 * block is computed in panels of rows, so that its scratch is small and only the lower triangle
 * (and the panels' own corners) is computed. */
#include "convert/moments.h"

#include "autograd/gemm.h"
#include "base/mem.h"

#include <cblas.h>
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256, PANEL = 128 };

/* gram: to work in, or NULL */
static bool init(struct moments *m, float *gram, struct err *e)
{
    const size_t width = (size_t)(m->d + m->extra);
    bool ok = true;

    CHECK(m->d > 0 && m->extra >= 0 && m->d + m->extra <= INT32_MAX);
    for (int k = 0; k < m->sets && ok; k++) {
        m->s[k] = mem_new(width, (size_t)m->d * sizeof(double), "second moments", e);
        m->block[k] = mem_new(BLOCK, width * sizeof(float), "second moments", e);
        ok = m->s[k] && m->block[k];
    }
    m->threads = omp_get_max_threads();
    m->borrows = gram;
    m->gram = !ok    ? NULL
              : gram ? gram
                     : mem_new((size_t)(PANEL * m->threads), (size_t)m->d * sizeof(float),
                               "second moments", e);
    if (!m->gram) moments_free(m);
    return m->gram != NULL;
}

bool moments_init(struct moments *m, int64_t d, struct err *e)
{
    *m = (struct moments){.d = d, .sets = 2};
    return init(m, NULL, e);
}

bool moments_init_cross(struct moments *m, int64_t d, int64_t extra, struct err *e)
{
    *m = (struct moments){.d = d, .extra = extra, .sets = 1};
    return init(m, NULL, e);
}

bool moments_init_like(struct moments *m, const struct moments *other, struct err *e)
{
    *m = (struct moments){.d = other->d, .extra = other->extra, .sets = other->sets};
    return init(m, other->gram, e);
}

size_t moments_cross_bytes(int64_t d, int64_t extra)
{
    const int64_t width = d + extra, threads = omp_get_max_threads();

    return (size_t)(width * d) * sizeof(double) +
           (size_t)(BLOCK * width + PANEL * threads * d) * sizeof(float);
}

void moments_free(struct moments *m)
{
    for (int k = 0; k < 2; k++) {
        free(m->s[k]);
        free(m->block[k]);
    }
    if (!m->borrows) free(m->gram);
    memset(m, 0, sizeof *m);
}

/* Adds rows r0 .. of the pending block's product to s. */
static void add_panel(const struct moments *m, int k, int64_t r0, float *gram)
{
    const int64_t d = m->d, width = d + m->extra, end = r0 < d ? d : width;
    const int64_t rows = end - r0 < PANEL ? end - r0 : PANEL, cols = r0 < d ? r0 + rows : d;

    gemm_serial(rows, cols, m->waiting[k], 1, mat_of(m->block[k] + r0, width, true),
                mat_of(m->block[k], width, false), false, gram, cols);
    for (int64_t i = 0; i < rows; i++) {
        double *out = m->s[k] + (r0 + i) * d;
        for (int64_t j = 0; j < cols && j <= r0 + i; j++)
            out[j] += gram[i * cols + j];
    }
}

static void flush(struct moments *m, int k)
{
    const int64_t of_d = (m->d + PANEL - 1) / PANEL, of_extra = (m->extra + PANEL - 1) / PANEL;
    const int blas_threads = openblas_get_num_threads();

    if (m->waiting[k] == 0) return;
    openblas_set_num_threads(1);
#pragma omp parallel for schedule(dynamic) num_threads(m->threads)
    for (int64_t j = 0; j < of_extra + of_d; j++) { /* widest first */
        const int64_t r0 = j < of_extra ? m->d + j * PANEL : (of_d - 1 - (j - of_extra)) * PANEL;
        add_panel(m, k, r0, m->gram + omp_get_thread_num() * PANEL * m->d);
    }
    openblas_set_num_threads(blas_threads);
    m->waiting[k] = 0;
}

void moments_add(struct moments *m, const float *x, const uint8_t *modality, int64_t T,
                 int64_t samples)
{
    const int64_t width = m->d + m->extra;

    for (int64_t t = 0; t < T; t++) {
        const int k = modality ? modality[t] : 0;

        CHECK(k < m->sets);
        memcpy(m->block[k] + m->waiting[k] * width, x + t * width, (size_t)width * sizeof *x);
        if (++m->waiting[k] == BLOCK) flush(m, k);
        m->tokens[k]++;
    }
    m->samples += samples;
}

bool moments_finish(struct moments *m, struct err *e)
{
    for (int k = 0; k < m->sets; k++) {
        flush(m, k);
        for (int64_t i = 0; i < m->d; i++)
            if (!isfinite(m->s[k][i * m->d + i]))
                return err_set(e,
                               "second moments: input %" PRId64 " of %" PRId64
                               " is not finite over the %s tokens; check the model's weights",
                               i, m->d, k == MOMENTS_IMAGE ? "image" : "text");
    }
    return true;
}

double moments_scale(const struct moments *m, int modality)
{
    const double count = (double)m->tokens[modality] * (double)m->samples;

    return count > 0 ? 1.0 / count : 0.0;
}

void moments_merge(struct moments *m)
{
    for (int64_t j = 0; j < m->d * m->d; j++)
        m->s[MOMENTS_TEXT][j] += m->s[MOMENTS_IMAGE][j];
    m->tokens[MOMENTS_TEXT] += m->tokens[MOMENTS_IMAGE];
}
