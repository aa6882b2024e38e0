/* basis.c - see basis.h. A component is numbered i G + c: the c-th of pair i. */
#include "convert/basis.h"
#include "base/mem.h"

#include <complex.h>
#include <lapacke.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Keys that get less than this share of what the strongest gets are left out of a query's
 * covariance: they are most of a long text's, and next to nothing of the sum. */
static const float FAINT = 0.01f;

static int64_t pairs_of(const struct rank_dims *n)
{
    return n->dh / 2;
}

int64_t basis_seen(const struct rank_dims *n)
{
    return pairs_of(n) * n->G * (2 * n->G + 1) + 1;
}

static double *sums_of_q(const struct basis *b)
{
    return b->seen + pairs_of(&b->n) * b->n.G * b->n.G * 2;
}

bool basis_init(struct basis *b, const struct rank_dims *n, struct err *e)
{
    static const char what[] = "the keys' basis";
    const size_t P = (size_t)n->dh / 2, G = (size_t)n->G;

    *b = (struct basis){.n = *n, .W = n->G * n->dh / 2};
    if (b->W > BASIS_WEIGHED) b->W = BASIS_WEIGHED;
    b->seen = mem_new((size_t)basis_seen(n), sizeof *b->seen, what, e);
    b->re = mem_new(P * G * G, sizeof *b->re, what, e);
    b->im = mem_new(P * G * G, sizeof *b->im, what, e);
    b->scale = mem_new(G * P, sizeof *b->scale, what, e);
    b->energy = mem_new(G * P, sizeof *b->energy, what, e);
    b->weighed = mem_new(G * P, sizeof *b->weighed, what, e);
    b->order = mem_new(G * P, sizeof *b->order, what, e);
    if (b->seen && b->re && b->im && b->scale && b->energy && b->weighed && b->order &&
        moments_init(&b->loss, b->W, e))
        return true;
    basis_free(b);
    return false;
}

void basis_free(struct basis *b)
{
    free(b->seen);
    free(b->re);
    free(b->im);
    free(b->scale);
    free(b->energy);
    free(b->weighed);
    free(b->order);
    moments_free(&b->loss);
    memset(b, 0, sizeof *b);
}

double basis_bytes(const struct rank_dims *n, int64_t T)
{
    const double G = (double)n->G, C = G * (double)n->dh / 2, t = (double)T;
    const double W = C < BASIS_WEIGHED ? C : BASIS_WEIGHED, threads = omp_get_max_threads();

    return 8 * ((double)basis_seen(n) + 2 * C * G + 2 * C) + 8 * C + /* seen, V, scale, energy */
           16 * W * W + (2048 + 512 * threads) * W +                 /* moments */
           t * (20 * W + 4 * G * (double)n->dh + 5) + 24 * W;        /* a sample in the basis */
}

/* ---- the basis ---- */

/* One pair of all tokens. */
static void see_pair(const struct basis *b, const struct rank_sample *x, int64_t i)
{
    const int64_t G = b->n.G, H = b->n.H, P = pairs_of(&b->n), group = H / G;
    double *m = b->seen + i * G * G * 2, *norm = sums_of_q(b) + i * G;

    for (int64_t t = 0; t < x->T; t++) {
        const float *k = x->k + t * G * 2 * P, *q = x->q + t * H * 2 * P;
        for (int64_t g = 0; g < G; g++)
            for (int64_t o = 0; o <= g; o++) { /* z_g conj(z_o) */
                const double a = k[g * 2 * P + i], c = k[g * 2 * P + P + i];
                const double u = k[o * 2 * P + i], v = k[o * 2 * P + P + i];
                m[(g * G + o) * 2] += a * u + c * v;
                m[(g * G + o) * 2 + 1] += c * u - a * v;
            }
        for (int64_t h = 0; h < H; h++)
            norm[h / group] +=
                pow((double)q[h * 2 * P + i], 2) + pow((double)q[h * 2 * P + P + i], 2);
    }
}

void basis_see(struct basis *b, const struct rank_sample *x)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < pairs_of(&b->n); i++)
        see_pair(b, x, i);
    b->seen[basis_seen(&b->n) - 1] += (double)x->T;
}

/* scale[g, i]; heads that never ask count like the faintest that do. */
static bool set_scales(struct basis *b, struct err *e)
{
    const int64_t G = b->n.G, P = pairs_of(&b->n);
    const double *norm = sums_of_q(b), tokens = b->seen[basis_seen(&b->n) - 1];
    double least = INFINITY;

    for (int64_t j = 0; j < P * G; j++) {
        if (!isfinite(norm[j]))
            return err_set(e, "queries are not finite; check the model's weights");
        if (norm[j] > 0) least = fmin(least, norm[j]);
    }
    for (int64_t g = 0; g < G; g++)
        for (int64_t i = 0; i < P; i++) {
            const double q = norm[i * G + g] > 0 ? norm[i * G + g] : isinf(least) ? tokens : least;
            b->scale[g * P + i] = sqrt(q / tokens);
        }
    return true;
}

/* The column's phase: its largest element becomes a positive number. */
static void fix_phase(double complex *v, int64_t G)
{
    int64_t top = 0;

    for (int64_t g = 1; g < G; g++)
        if (cabs(v[g]) > cabs(v[top]) * (1 + 1e-9)) top = g;
    const double complex turn = conj(v[top]) / cabs(v[top]);
    for (int64_t g = 0; g < G; g++)
        v[g] *= turn;
}

/* Eigenvectors of D M D of a pair; a [G, G] and value [G] are scratch. */
static bool solve_pair(struct basis *b, int64_t i, double complex *a, double *value, struct err *e)
{
    const int64_t G = b->n.G, P = pairs_of(&b->n);
    const double *m = b->seen + i * G * G * 2, tokens = b->seen[basis_seen(&b->n) - 1];
    int info;

    for (int64_t g = 0; g < G; g++)
        for (int64_t o = 0; o <= g; o++) { /* column-major: element (g, o) of the lower triangle */
            const double s = b->scale[g * P + i] * b->scale[o * P + i] / tokens;
            a[o * G + g] = s * (m[(g * G + o) * 2] + I * m[(g * G + o) * 2 + 1]);
        }
    info = LAPACKE_zheev(LAPACK_COL_MAJOR, 'V', 'L', (lapack_int)G, a, (lapack_int)G, value);
    if (info != 0) return err_set(e, "the keys' basis of pair %d cannot be found", (int)i);
    for (int64_t c = 0; c < G; c++) { /* LAPACK's are ascending */
        double complex *v = a + (G - 1 - c) * G;
        fix_phase(v, G);
        b->energy[i * G + c] = value[G - 1 - c];
        for (int64_t g = 0; g < G; g++) {
            b->re[(i * G + c) * G + g] = creal(v[g]);
            b->im[(i * G + c) * G + g] = cimag(v[g]);
        }
    }
    return true;
}

/* The W components of most energy; equal ones by their number. */
static void choose_weighed(struct basis *b)
{
    const int64_t C = b->n.G * pairs_of(&b->n);
    int64_t n = 0;

    for (int64_t c = 0; c < C; c++) {
        int64_t before = 0;
        for (int64_t o = 0; o < C; o++)
            before += b->energy[o] > b->energy[c] || (o < c && !(b->energy[o] < b->energy[c]));
        if (before < b->W) b->weighed[n++] = (int32_t)c;
    }
    CHECK(n == b->W);
}

bool basis_solve(struct basis *b, struct err *e)
{
    const size_t G = (size_t)b->n.G;
    double complex *a = mem_new(G * G, sizeof *a, "the keys' basis", e);
    double *value = mem_new(G, sizeof *value, "the keys' basis", e);
    bool ok = a && value && set_scales(b, e);

    for (int64_t i = 0; ok && i < pairs_of(&b->n); i++)
        ok = solve_pair(b, i, a, value, e);
    if (ok) choose_weighed(b);
    free(a);
    free(value);
    return ok;
}

int32_t basis_pair(const struct basis *b, int64_t component)
{
    return (int32_t)(component / b->n.G);
}

const double *basis_re(const struct basis *b, int64_t component)
{
    return b->re + component * b->n.G;
}

const double *basis_im(const struct basis *b, int64_t component)
{
    return b->im + component * b->n.G;
}

/* ---- what is lost ---- */

/* A sample in the basis: the weighed components of its keys, before and after rotation. */
struct weigh {
    const struct rank_sample *x;
    float *key;         /* [T, 4, W]: re, im, re rotated, im rotated */
    float *query;       /* [4, W]: of the current query */
    float *rotated;     /* [T, G, dh]: the heads' own keys */
    float *logit, *row; /* [T], [T, W] */
    uint8_t *modality;  /* [T]: the current query's */
    double *mean;       /* [W] */
};

static bool open_weigh(struct weigh *w, const struct basis *b, const struct rank_sample *x,
                       struct err *e)
{
    const size_t T = (size_t)x->T, W = (size_t)b->W;

    *w = (struct weigh){.x = x};
    w->key = mem_new(T * 4, W * sizeof *w->key, "the keys' basis", e);
    w->query = mem_new(4, W * sizeof *w->query, "the keys' basis", e);
    w->rotated = mem_new(T, (size_t)(b->n.G * b->n.dh) * sizeof *w->rotated, "the keys' basis", e);
    w->logit = mem_new(T, sizeof *w->logit, "the keys' basis", e);
    w->row = mem_new(T, W * sizeof *w->row, "the keys' basis", e);
    w->modality = mem_new(T, 1, "the keys' basis", e);
    w->mean = mem_new(W, sizeof *w->mean, "the keys' basis", e);
    return w->key && w->query && w->rotated && w->logit && w->row && w->modality && w->mean;
}

static void close_weigh(struct weigh *w)
{
    free(w->key);
    free(w->query);
    free(w->rotated);
    free(w->logit);
    free(w->row);
    free(w->modality);
    free(w->mean);
}

/* (a, b) turned by the table's angle of token t and pair i. */
static void turn(const struct rank_sample *x, int64_t P, int64_t t, int64_t i, float a, float b,
                 float *to_a, float *to_b)
{
    const float c = x->cos[t * P + i], s = x->sin[t * P + i];

    *to_a = a * c - b * s;
    *to_b = b * c + a * s;
}

/* Token t's keys: z' = v^H D z, and both forms of it. */
static void load_key(const struct basis *b, const struct weigh *w, int64_t t)
{
    const int64_t G = b->n.G, P = pairs_of(&b->n), W = b->W;
    const float still = (float)(w->x->scale * w->x->scale), *k = w->x->k + t * G * 2 * P;
    float *key = w->key + t * 4 * W;

    for (int64_t j = 0; j < W; j++) {
        const int64_t i = basis_pair(b, b->weighed[j]);
        const double *re = basis_re(b, b->weighed[j]), *im = basis_im(b, b->weighed[j]);
        double x = 0, y = 0;
        for (int64_t g = 0; g < G; g++) {
            const double d = b->scale[g * P + i], u = k[g * 2 * P + i], v = k[g * 2 * P + P + i];
            x += d * (re[g] * u + im[g] * v);
            y += d * (re[g] * v - im[g] * u);
        }
        key[j] = (float)x * still;
        key[W + j] = (float)y * still;
        turn(w->x, P, t, i, (float)x, (float)y, &key[2 * W + j], &key[3 * W + j]);
    }
    for (int64_t j = 0; j < G * P; j++) {
        const float *from = k + j / P * 2 * P;
        float *to = w->rotated + (t * G + j / P) * 2 * P;
        turn(w->x, P, t, j % P, from[j % P], from[P + j % P], &to[j % P], &to[P + j % P]);
    }
}

/* Query t of head h: q' = v^H e_g q / scale, over sqrt(dh). */
static void load_query(const struct basis *b, const struct weigh *w, int64_t h, int64_t t)
{
    const int64_t G = b->n.G, P = pairs_of(&b->n), W = b->W, g = h / (b->n.H / G);
    const float *q = w->x->q + (t * b->n.H + h) * 2 * P;

    for (int64_t j = 0; j < W; j++) {
        const int64_t i = basis_pair(b, b->weighed[j]);
        const double d = 1 / (b->scale[g * P + i] * sqrt((double)b->n.dh));
        const double re = d * basis_re(b, b->weighed[j])[g], im = d * basis_im(b, b->weighed[j])[g];
        const float x = (float)(re * (double)q[i] + im * (double)q[P + i]);
        const float y = (float)(re * (double)q[P + i] - im * (double)q[i]);
        w->query[j] = x;
        w->query[W + j] = y;
        turn(w->x, P, t, i, x, y, &w->query[2 * W + j], &w->query[3 * W + j]);
    }
}

/* The query's attention over its keys, in w->logit. */
static void attend(const struct basis *b, const struct weigh *w, int64_t h, int64_t t)
{
    const int64_t G = b->n.G, P = pairs_of(&b->n), g = h / (b->n.H / G);
    const float *q = w->x->q + (t * b->n.H + h) * 2 * P, scale = 1 / sqrtf((float)b->n.dh);
    float top = -INFINITY;
    double sum = 0;

    for (int64_t n = 0; n <= t; n++) {
        const float *k = w->rotated + (n * G + g) * 2 * P;
        float s = 0, a, c;
        for (int64_t i = 0; i < P; i++) {
            turn(w->x, P, t, i, q[i], q[P + i], &a, &c);
            s += a * k[i] + c * k[P + i];
        }
        w->logit[n] = s * scale;
        top = fmaxf(top, w->logit[n]);
    }
    for (int64_t n = 0; n <= t; n++) {
        w->logit[n] = expf(w->logit[n] - top);
        if (w->logit[n] < FAINT) w->logit[n] = 0; /* the strongest is 1 */
        sum += (double)w->logit[n];
    }
    for (int64_t n = 0; n <= t; n++)
        w->logit[n] = (float)((double)w->logit[n] / sum);
}

/* Rows sqrt(p) (a - s - mean) of the keys that count; returns their number. */
static int64_t weigh_keys(const struct basis *b, struct weigh *w, int64_t t)
{
    const int64_t W = b->W;
    int64_t rows = 0;

    memset(w->mean, 0, (size_t)W * sizeof *w->mean);
    for (int64_t n = 0; n <= t; n++) {
        const float *k = w->key + n * 4 * W, *q = w->query, p = w->logit[n];
        float *row = w->row + rows * W;
        if (p <= 0) continue;
        for (int64_t j = 0; j < W; j++)
            row[j] = q[j] * k[j] + q[W + j] * k[W + j] -
                     (q[2 * W + j] * k[2 * W + j] + q[3 * W + j] * k[3 * W + j]);
        for (int64_t j = 0; j < W; j++)
            w->mean[j] += (double)p * (double)row[j];
        w->logit[rows++] = p; /* of those that count */
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < W; j++)
            w->row[r * W + j] =
                sqrtf(w->logit[r]) * (float)((double)w->row[r * W + j] - w->mean[j]);
    return rows;
}

bool basis_lose(struct basis *b, const struct rank_sample *x, int64_t max_queries, struct err *e)
{
    const int64_t queries = max_queries > 0 && max_queries < x->T ? max_queries : x->T;
    struct weigh w;
    bool ok = open_weigh(&w, b, x, e);

#pragma omp parallel for schedule(static) if (ok)
    for (int64_t t = 0; t < (ok ? x->T : 0); t++)
        load_key(b, &w, t);
    for (int64_t r = 0; ok && r < queries; r++) {
        const int64_t t = (r + 1) * x->T / queries - 1; /* evenly spaced, the last one among them */
        memset(w.modality, x->modality[t], (size_t)x->T);
        for (int64_t h = 0; h < b->n.H; h++) {
            load_query(b, &w, h, t);
            attend(b, &w, h, t);
            moments_add(&b->loss, w.row, w.modality, weigh_keys(b, &w, t), 0);
        }
        b->queries[x->modality[t]]++;
    }
    close_weigh(&w);
    return ok;
}

/* ---- the order ---- */

/* Q [W, W], the lower triangle, in loss.s[0]: the modalities' means. */
static void mean_loss(struct basis *b)
{
    const int64_t W = b->W;
    double *q = b->loss.s[0];

    for (int64_t j = 0; j < W * W; j++) {
        double sum = 0;
        for (int m = 0; m < 2; m++)
            if (b->queries[m] > 0) sum += b->loss.s[m][j] / b->queries[m];
        q[j] = sum;
    }
}

static double element(const double *q, int64_t W, int64_t i, int64_t j)
{
    return i > j ? q[i * W + j] : q[j * W + i];
}

/* Of the weighed components the order in which they lose RoPE, from the back of `order`. */
static void eliminate(const struct basis *b, int32_t *order, double *grows)
{
    const double *q = b->loss.s[0];
    const int64_t W = b->W;

    for (int64_t j = 0; j < W; j++)
        grows[j] = element(q, W, j, j);
    for (int64_t left = W; left > 0; left--) {
        int64_t least = -1;
        for (int64_t j = 0; j < W; j++)
            if (!isnan(grows[j]) && (least < 0 || grows[j] < grows[least])) least = j;
        order[left - 1] = b->weighed[least];
        grows[least] = (double)NAN; /* has lost it */
        for (int64_t j = 0; j < W; j++)
            grows[j] += 2 * element(q, W, least, j);
    }
}

bool basis_order(struct basis *b, struct err *e)
{
    const int64_t C = b->n.G * pairs_of(&b->n);
    double *grows = mem_new((size_t)b->W, sizeof *grows, "the keys' basis", e);
    int64_t at = b->W, k = 0;

    if (!grows) return false;
    mean_loss(b);
    eliminate(b, b->order, grows);
    for (int64_t c = 0; c < C; c++) { /* those that were not weighed */
        if (k < b->W && b->weighed[k] == c)
            k++;
        else
            b->order[at++] = (int32_t)c;
    }
    free(grows);
    return true;
}
