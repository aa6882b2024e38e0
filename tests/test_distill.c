/* test_distill.c - what is kept of a teacher, and the loss made of it, against both written down
 * plainly in double. */
#include "tests/ops_bench.h"

static const enum dtype dtypes[] = {DT_F32, DT_BF16, DT_F16, DT_F64};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

/* The third needs tiles over rows and vocabulary; the fourth keeps all tokens. */
static const struct shape {
    int64_t rows, vocab, d, k;
    double temperature, weight;
} shapes[] = {{1, 17, 8, 3, 1, 0.5},
              {30, 3000, 8, 64, 2, 0.3},
              {1030, 2100, 4, 5, 0.5, 1},
              {9, 12, 8, 12, 3, 0.8}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static struct top_logits lists_new(const struct shape *s)
{
    return (struct top_logits){s->k, s->temperature, zeroed(s->rows * s->k, sizeof(int32_t)),
                               zeroed(s->rows * s->k, sizeof(real)), zeroed(s->rows, sizeof(real))};
}

static void lists_free(struct top_logits *to)
{
    free(to->ids);
    free(to->logits);
    free(to->rest);
}

static void logits_of(const struct matrix *h, const struct matrix *w, int64_t row, double *z)
{
    memset(z, 0, (size_t)w->leaf.rows * sizeof *z);
    product(1, w->leaf.rows, h->leaf.cols, h->ref + row * h->leaf.cols, h->leaf.cols, w->ref, true,
            z, w->leaf.rows);
}

/* The row of the teacher's that has token j; -1: none. */
static int64_t place_of(const struct top_logits *to, int64_t row, int64_t j)
{
    for (int64_t i = 0; i < to->k; i++)
        if (to->ids[row * to->k + i] == j) return i;
    return -1;
}

/* ---- what is kept ---- */

/* z[V] are the true logits. An fp32 logit of 8 terms is off by some 1e-6, and
 * so may the order be. */
static void check_kept(const struct top_logits *to, int64_t row, const double *z, int64_t V,
                       double share)
{
    double least = INFINITY, most = -INFINITY, rest = 0, all = 0;

    for (int64_t i = 1; i < to->k; i++)
        assert_true(to->ids[row * to->k + i - 1] < to->ids[row * to->k + i]);
    for (int64_t j = 0; j < V; j++) {
        const int64_t at = place_of(to, row, j);
        const double part = exp(z[j] / to->temperature);
        all += part;
        if (at < 0) {
            most = fmax(most, z[j]);
            rest += part;
        } else {
            least = fmin(least, z[j]);
            assert_true(fabs((double)to->logits[row * to->k + at] - z[j]) < 1e-5);
        }
    }
    assert_true(least > most - 1e-5);
    assert_true(to->k == V ? isinf((double)to->rest[row])
                           : fabs((double)to->rest[row] - log(rest)) < 1e-5);
    assert_true(fabs(share - rest / all) < 1e-5);
}

static void test_top_logits(void **state)
{
    (void)state;
    for (int c = 0; c < DTYPES * SHAPES; c++) {
        const struct shape *s = &shapes[c % SHAPES];
        struct top_logits to = lists_new(s);
        double *z = zeroed(s->vocab, sizeof *z);
        struct bench b;
        bench_open(&b);
        struct matrix *h = fresh(&b, DT_F32, s->rows, s->d, 1);
        struct matrix *w = fresh(&b, dtypes[c / SHAPES], s->vocab, s->d, 1);
        struct tensor *share = op_top_logits(b.t, &h->leaf, &w->leaf, &to);
        tape_keep(share);
        compute(&b);
        for (int64_t i = 0; i < s->rows; i++) {
            logits_of(h, w, i, z);
            check_kept(&to, i, z, s->vocab, (double)tensor_real(share)[i]);
        }
        free(z);
        lists_free(&to);
        bench_close(&b);
    }
}

/* Of tokens with the same logit the first ones are kept, also over tiles: all are equal here. */
static void test_equal_logits(void **state)
{
    const struct shape s = {1030, 2100, 1, 5, 1, 0};
    struct top_logits to = lists_new(&s);
    struct bench b;

    (void)state;
    bench_open(&b);
    struct matrix *h = fresh(&b, DT_F32, s.rows, 1, 1), *w = fresh(&b, DT_F32, s.vocab, 1, 1);
    for (int64_t j = 0; j < s.vocab; j++)
        store(&w->leaf, j, 0.5);
    op_top_logits(b.t, &h->leaf, &w->leaf, &to);
    compute(&b);
    for (int64_t i = 0; i < s.rows * s.k; i++)
        assert_int_equal(to.ids[i], i % s.k);
    lists_free(&to);
    bench_close(&b);
}

/* ---- the loss ---- */

/* A student's head, its labels, and a teacher's lists. */
struct student {
    struct bench b;
    const struct shape *s;
    struct matrix *h, *w;
    int32_t *labels;
    struct top_logits to;
    struct distill_terms terms;
    double *dh, *dw; /* of the plain form */
};

static void trained(struct matrix *m)
{
    m->leaf.needs_grad = true;
    m->leaf.grad = zeroed(tensor_count(&m->leaf), sizeof(real));
}

/* `same`: the teacher is the student. */
static void student_open(struct student *x, const struct shape *s, enum dtype dt, bool same)
{
    *x = (struct student){.s = s, .to = lists_new(s)};
    bench_open(&x->b);
    x->h = fresh(&x->b, DT_F32, s->rows, s->d, 1);
    x->w = fresh(&x->b, dt, s->vocab, s->d, 1);
    struct matrix *h = same ? x->h : fresh(&x->b, DT_F32, s->rows, s->d, 1);
    x->labels = zeroed(s->rows, sizeof *x->labels);
    for (int64_t i = 0; i < s->rows; i++)
        x->labels[i] = (int32_t)rng_below(&x->b.rng, (uint64_t)s->vocab);
    op_top_logits(x->b.t, &h->leaf, &x->w->leaf, &x->to);
    compute(&x->b);
    trained(x->h);
    if (dt == DT_F32) trained(x->w);
    x->dh = zeroed(s->rows * s->d, sizeof *x->dh);
    x->dw = zeroed(s->vocab * s->d, sizeof *x->dw);
}

static void student_close(struct student *x)
{
    free(x->labels);
    free(x->dh);
    free(x->dw);
    lists_free(&x->to);
    bench_close(&x->b);
}

static double scale_of(const struct student *x)
{
    return 1.0 / (double)(x->s->rows ? x->s->rows : 1);
}

/* Loss and gradients of the op, or with weight < 0 of cross entropy. */
static double run(struct student *x, double weight)
{
    struct tensor *h = &x->h->leaf, *w = &x->w->leaf, *loss;

    tape_begin(x->b.t, true);
    memset(h->grad, 0, (size_t)tensor_count(h) * sizeof(real));
    if (w->grad) memset(w->grad, 0, (size_t)tensor_count(w) * sizeof(real));
    loss = weight < 0 ? op_cross_entropy(x->b.t, h, w, x->labels, scale_of(x))
                      : op_distill(x->b.t, h, w, x->labels,
                                   &(struct distill){&x->to, weight, scale_of(x), &x->terms});
    compute(&x->b);
    tape_backward(x->b.t, loss);
    return (double)tensor_real(loss)[0];
}

/* The buckets of z at temperature T: out[k + 1]. */
static void buckets(const struct top_logits *to, int64_t row, const double *z, int64_t V,
                    double *out)
{
    double sum = 0;

    memset(out, 0, (size_t)(to->k + 1) * sizeof *out);
    for (int64_t j = 0; j < V; j++) {
        const int64_t at = place_of(to, row, j);
        out[at < 0 ? to->k : at] += exp(z[j] / to->temperature);
        sum += exp(z[j] / to->temperature);
    }
    for (int64_t i = 0; i <= to->k; i++)
        out[i] /= sum;
}

/* The teacher's, from what is kept of it. */
static void teacher_buckets(const struct top_logits *to, int64_t row, double *out)
{
    double sum = 0;

    for (int64_t i = 0; i <= to->k; i++) {
        out[i] = exp(i < to->k ? (double)to->logits[row * to->k + i] / to->temperature
                               : (double)to->rest[row]);
        sum += out[i];
    }
    for (int64_t i = 0; i <= to->k; i++)
        out[i] /= sum;
}

/* A row's terms, and dz[V] = d loss / d logits. The derivative of log q_b, of a bucket b that holds
 * the share s_j of token j within it, is ([j in b] s_j - softmax_j) / T. */
static void plain_row(struct student *x, int64_t row, const double *z, double *dz,
                      struct distill_terms *sum)
{
    const struct top_logits *to = &x->to;
    const int64_t V = x->s->vocab, k = to->k, label = x->labels[row];
    const double T = to->temperature, scale = scale_of(x);
    double *p = zeroed(k + 1, sizeof *p), *q = zeroed(k + 1, sizeof *q), all = 0, all_T = 0;

    buckets(to, row, z, V, q);
    teacher_buckets(to, row, p);
    for (int64_t j = 0; j < V; j++)
        all += exp(z[j]), all_T += exp(z[j] / T);
    sum->ce += scale * (log(all) - z[label]);
    for (int64_t b = 0; b <= k; b++)
        if (p[b] > 0) sum->distill += scale * T * T * p[b] * log(p[b] / q[b]);
    for (int64_t j = 0; j < V; j++) {
        const int64_t at = place_of(to, row, j), in = at < 0 ? k : at;
        const double soft = exp(z[j] / T) / all_T;
        double kl = 0;
        for (int64_t b = 0; b <= k; b++)
            kl -= p[b] * ((b == in ? soft / q[b] : 0) - soft) / T;
        dz[j] = scale *
                ((1 - x->s->weight) * (exp(z[j]) / all - (j == label)) + x->s->weight * T * T * kl);
    }
    free(p);
    free(q);
}

static struct distill_terms plain(struct student *x)
{
    const int64_t V = x->s->vocab, d = x->s->d;
    struct distill_terms sum = {0, 0};
    double *z = zeroed(V, sizeof *z), *dz = zeroed(V, sizeof *dz);

    for (int64_t i = 0; i < x->s->rows; i++) {
        logits_of(x->h, x->w, i, z);
        plain_row(x, i, z, dz, &sum);
        for (int64_t j = 0; j < V; j++)
            for (int64_t c = 0; c < d; c++) {
                x->dh[i * d + c] += dz[j] * x->w->ref[j * d + c];
                x->dw[j * d + c] += dz[j] * x->h->ref[i * d + c];
            }
    }
    free(z);
    free(dz);
    return sum;
}

static void check_grad(const struct matrix *m, const double *want, double tolerance)
{
    struct tensor got = tensor_leaf(DT_F32, m->leaf.rows, m->leaf.cols, m->leaf.grad);

    if (m->leaf.grad) check_close(&got, want, tolerance);
}

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want)))) fail_msg("%.9g, not %.9g", got, want);
}

/* Sums of fp32 products: as of cross entropy in test_ops.c. */
static void test_distill(void **state)
{
    (void)state;
    for (int c = 0; c < DTYPES * SHAPES; c++) {
        const struct shape *s = &shapes[c % SHAPES];
        struct distill_terms want;
        struct student x;
        student_open(&x, s, dtypes[c / SHAPES], false);
        const double loss = run(&x, s->weight);
        want = plain(&x);
        near(x.terms.ce, want.ce, 1e-5);
        near(x.terms.distill, want.distill, 1e-5);
        near(loss, (1 - s->weight) * want.ce + s->weight * want.distill, 1e-5);
        check_grad(x.h, x.dh, 1e-5);
        check_grad(x.w, x.dw, 1e-5);
        student_close(&x);
    }
}

/* Nothing is left to learn. Of several tiles the sums have another order in the teacher, so that
 * the rest's log is off by an fp32 sum's rounding, 1e-6; a gradient is at most that, times T. */
static void test_same(void **state)
{
    (void)state;
    for (int c = 0; c < SHAPES; c++) {
        const struct shape *s = &shapes[c];
        struct student x;
        student_open(&x, s, DT_F32, true);
        assert_true(fabs(run(&x, 1)) <= 1e-6 && fabs(x.terms.distill) <= 1e-6 && x.terms.ce > 0.1);
        for (int64_t i = 0; i < s->rows * s->d; i++)
            assert_true(fabs((double)x.h->leaf.grad[i]) <= 4e-6);
        for (int64_t i = 0; i < s->vocab * s->d; i++)
            assert_true(fabs((double)x.w->leaf.grad[i]) <= 4e-6);
        student_close(&x);
    }
}

/* With all tokens kept it is the divergence of the whole distributions. */
static void test_full(void **state)
{
    const struct shape s = {9, 50, 8, 50, 2, 1};
    double z[50], kl = 0;
    struct student x;

    (void)state;
    student_open(&x, &s, DT_F32, false);
    run(&x, 1);
    for (int64_t i = 0; i < s.rows; i++) {
        double all = 0, all_t = 0;
        logits_of(x.h, x.w, i, z);
        for (int64_t j = 0; j < s.vocab; j++) {
            all += exp(z[j] / 2);
            all_t += exp((double)x.to.logits[i * s.k + j] / 2);
        }
        for (int64_t j = 0; j < s.vocab; j++) {
            const double of = (double)x.to.logits[i * s.k + j] / 2, p = exp(of) / all_t;
            kl += 4 * scale_of(&x) * p * ((of - log(all_t)) - (z[j] / 2 - log(all)));
        }
    }
    assert_true(kl > 0.5);
    near(x.terms.distill, kl, 1e-5);
    student_close(&x);
}

/* Without weight it is cross entropy, bit for bit. */
static void test_no_weight(void **state)
{
    (void)state;
    for (int c = 0; c < SHAPES; c++) {
        const struct shape *s = &shapes[c];
        const size_t h = (size_t)(s->rows * s->d) * sizeof(real),
                     w = (size_t)(s->vocab * s->d) * sizeof(real);
        real *dh = zeroed(s->rows * s->d, sizeof *dh), *dw = zeroed(s->vocab * s->d, sizeof *dw);
        struct student x;
        student_open(&x, s, DT_F32, false);
        const double want = run(&x, -1);
        memcpy(dh, x.h->leaf.grad, h);
        memcpy(dw, x.w->leaf.grad, w);
        assert_true(run(&x, 0) == want && x.terms.distill > 0.01);
        assert_memory_equal(dh, x.h->leaf.grad, h);
        assert_memory_equal(dw, x.w->leaf.grad, w);
        free(dh);
        free(dw);
        student_close(&x);
    }
}

/* A batch without labels. */
static void test_no_rows(void **state)
{
    const struct shape s = {0, 12, 8, 3, 1, 0.5};
    struct student x;

    (void)state;
    student_open(&x, &s, DT_F32, false);
    assert_true(run(&x, 0.5) == 0 && x.terms.ce == 0 && x.terms.distill == 0);
    for (int64_t i = 0; i < s.vocab * s.d; i++)
        assert_true(x.w->leaf.grad[i] == 0);
    student_close(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_top_logits), cmocka_unit_test(test_equal_logits),
        cmocka_unit_test(test_distill),    cmocka_unit_test(test_same),
        cmocka_unit_test(test_full),       cmocka_unit_test(test_no_weight),
        cmocka_unit_test(test_no_rows),
    };
    return cmocka_run_group_tests_name("distill", tests, NULL, NULL);
}
