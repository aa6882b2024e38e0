/* test_cache_golden.c - packed caches beside others': the codes of optimum-quanto, HQQ and KIVI,
 * logits over transformers' QuantizedCache (tests/data/cache/make_golden.py); and the bytes of
 * every kind of cache of MLA, measured. */
#include "tests/ops_bench.h"

#include "autograd/row_form.h"
#include "model/files/safetensors.h"
#include "model/generate.h"
#include "model/outline.h"
#include "tests/golden_set.h"
#include "tests/tiny_model.h"

#define DATA "tests/data/cache/"
enum { ROWS = 96, WIDTH = 64, RUN = 32, PROMPT = 40 };

static struct st_file golden;

static int open_golden(void **state)
{
    struct err e;

    (void)state;
    return st_open(&golden, DATA "golden.safetensors", &e) ? 0 : (print_message("%s\n", e.msg), 1);
}

static int close_golden(void **state)
{
    (void)state;
    st_close(&golden);
    return 0;
}

static const void *values(const char *name, const char *what)
{
    char all[40];

    snprintf(all, sizeof all, "%s%s%s", name, *what ? "." : "", what);
    const struct st_tensor *t = st_find(&golden, all);
    if (!t) fail_msg("%s: not in the golden file", all);
    return t->data;
}

/* ---- codes ---- */

/* What a block has of row i, column c. */
static int64_t block_at(const struct row_form *f, int64_t i, int64_t c)
{
    return f->channels ? i / RUN * WIDTH + c : (i * WIDTH + c) / f->values;
}

/* The rows as our form gives them back. KIVI's wait for some rows more, which push them out. */
static void through(const struct row_form *f, const float *x, float *y)
{
    const int64_t more = f->run ? f->run + 1 : 0, capacity = ROWS + more;
    uint8_t *all =
        zeroed(1, (size_t)(capacity * row_form_bytes(f, WIDTH) + row_form_window(f, WIDTH)));
    const struct row_sequence s = row_sequence_at(f, all, 0, capacity, WIDTH);

    for (int64_t i = 0; i < capacity; i++)
        assert_true(row_write(&s, i, x + i % ROWS * WIDTH));
    row_read(&s, capacity, &(struct row_part){0, ROWS, 0, WIDTH, WIDTH}, y);
    free(all);
}

/* Our values are theirs but for fp16, in which s and m are rounded, 2^-11 of each: so of s q and of
 * m; and but for codes that it moves by one: few, and only where x is that near to the middle of
 * two. HQQ's zero point moves until the error does not fall: a round sooner or later, as sums
 * round, so that it may be some thousandths of a step away. */
static void check_codes(const char *theirs, const char *ours)
{
    const double slack = strncmp(ours, "hqq", 3) == 0 ? 0.01 : 0;
    const struct row_form *f = row_form_find(ours, strlen(ours));
    const float *x = values("x", ""), *scale = values(theirs, "scale"),
                *least = values(theirs, "least");
    const uint8_t *codes = values(theirs, "codes");
    float *y = zeroed(ROWS * WIDTH, sizeof *y);
    int moved = 0;

    through(f, x, y);
    for (int64_t i = 0; i < ROWS; i++)
        for (int64_t c = 0; c < WIDTH; c++) {
            const int64_t at = i * WIDTH + c, b = block_at(f, i, c);
            const double s = (double)scale[b], m = (double)least[b], q = codes[at];
            const double most = 0x1p-11 * (s * q + fabs(m)) + slack * s + 1e-6;
            const double off = fabs((double)y[at] - (s * q + m));
            const double middle = fabs(fabs(((double)x[at] - m) / s - q) - 0.5);
            if (off <= most) continue;
            if (!(off <= s + 2 * most && middle * s <= 2 * most))
                fail_msg("%s, row %d, column %d: %g, theirs %g, of %g", ours, (int)i, (int)c,
                         (double)y[at], s * q + m, (double)x[at]);
            moved++;
        }
    print_message("# %s: %d of %d codes beside %s's\n", ours, moved, ROWS * WIDTH, theirs);
    assert_true(moved * 100 <= ROWS * WIDTH);
    free(y);
}

static void test_codes(void **state)
{
    static const char *const rows[][2] = {
        {"quanto4", "q4"},    {"quanto2", "quanto2"}, {"hqq4", "hqq4"},     {"hqq2", "hqq2"},
        {"kivi4k", "kivi4k"}, {"kivi2k", "kivi2k"},   {"kivi4v", "kivi4v"}, {"kivi2v", "kivi2v"}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_codes(rows[i][0], rows[i][1]);
}

/* ---- logits ---- */

/* Of the prompt's last token and of the next, to[2, V], over a cache of that kind. */
static void logits_over(struct model *m, const char *name, float *to)
{
    const int64_t V = m->cfg.text.vocab_size;
    struct sample s = golden_ids(m, values("ids", ""), PROMPT, 0);
    struct batch_buffer b = {0};
    struct kv_cache cache = {0};
    struct running next;
    struct cache_kind kind;
    struct cache_how how;
    struct err e = {0};
    struct tape *t = tape_new(&e);
    struct generator g = {.m = m, .t = t};
    struct tensor *out;

    must(t && cache_kind_read(&kind, name, &e) && cache_how_new(&how, m, &kind, &e), &e);
    must(kv_cache_new(&cache, m, &how, 1, PROMPT + 1, &e) && running_new(&next, 1, m, &e), &e);
    must(batch_fill(&b, &s, 1, true, &e), &e);
    for (int i = 0; i < 2; i++) {
        running_add(&next, 0, ((const int32_t *)values("ids", ""))[PROMPT], PROMPT);
        const struct batch one = running_batch(&next);
        const struct forward f = {
            .batch = i ? &one : &b.batch, .cache = &cache, .seq = &(int64_t){0}};
        must((out = generate_logits(&g, &f, &e)) != NULL, &e);
        memcpy(to + i * V, tensor_real(out), (size_t)V * sizeof *to);
        next.n = 0;
    }
    running_free(&next);
    kv_cache_free(&cache);
    cache_how_free(&how);
    batch_free(&b);
    sample_free(&s);
    tape_free(t);
}

static double farthest(const float *a, const float *b, int64_t n)
{
    double d = 0;

    for (int64_t i = 0; i < n; i++)
        d = fmax(d, fabs((double)a[i] - (double)b[i]));
    return d;
}

/* transformers' cache packs the prompt, and sees none of that until the second token, whose own key
 * and value it still has as they were: as ours with "+exact". Where it rounds s and m to fp16 as
 * ours does, both are equal but for rounding; as it is, it is nearer to ours than to
 * an unpacked cache. */
static void test_logits(void **state)
{
    static const struct {
        const char *theirs, *ours;
        double most;
    } rows[] = {{"plain", "f32", 2e-5},
                {"quanto4.fp16", "q4+exact", 2e-5},
                {"quanto2.fp16", "quanto2+exact", 2e-5},
                {"quanto4", "q4+exact", 0.1},
                {"quanto2", "quanto2+exact", 1}};
    struct model m;
    struct err e;
    float *got;

    (void)state;
    must(model_open(&m, DATA "llama", &e), &e);
    const int64_t V = m.cfg.text.vocab_size;
    got = zeroed(2 * V, sizeof *got);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const float *want = values(rows[i].theirs, ""), *plain = values("plain", "");
        logits_over(&m, rows[i].ours, got);
        const double first = farthest(got, want, V), second = farthest(got + V, want + V, V);
        print_message("# %s: off by %.2g, then %.2g; the unpacked cache by %.2g\n", rows[i].theirs,
                      first, second, farthest(got + V, plain + V, V));
        assert_true(first <= 2e-5 && second <= rows[i].most);
        assert_true(i == 0 || farthest(got + V, plain + V, V) > 2 * second);
    }
    free(got);
    model_close(&m);
}

/* ---- bytes ---- */

enum { HEADS = 4, LAYERS = 2, ROPE = 32 };
static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":32,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":4,\"head_dim\":128,\"vocab_size\":40,"
    "\"max_position_embeddings\":64}";

/* Of n tokens in a cache of that kind, of a model with 32 rotated dims a head and latents of `rank`
 * for each. */
static size_t measured(const struct model *m, int64_t rank, const char *name, int64_t n)
{
    const struct model_state s = {
        .state = ATTN_MLA, .rope_dim = ROPE, .latent = rank * HEADS, .method = KV_JOINT};
    struct kv_cache cache = {0};
    struct cache_kind kind;
    struct model shape;
    struct err e = {0};

    must(model_outline(&shape, m, &s, 0, &e), &e);
    must(cache_kind_read(&kind, name, &e), &e);
    const struct cache_how how = {.kind = kind};
    must(kv_cache_new(&cache, &shape, &how, 1, n, &e), &e);
    cache.length[0] = n;
    const size_t bytes = kv_cache_sequence_bytes(&cache, 0);
    assert_int_equal(bytes, n * cache_kind_bytes(&kind, &shape));
    kv_cache_free(&cache);
    model_close(&shape);
    return bytes;
}

/* A token, layer and kv head in each kind, and the share of 512, what bf16 keys and
 * values of 128 take. */
static void test_bytes(void **state)
{
    static const char *const kinds[] = {"f32",   "bf16", "q8",          "q8+q4",
                                        "q8+q2", "q4",   "q8+q4+rotate"};
    static const struct {
        int64_t rank;
        size_t bytes[7];
        const char *share[7];
    } rows[] = {
        {16,
         {192, 96, 51, 43, 40, 27, 43},
         {"37.50", "18.75", "9.96", "8.40", "7.81", "5.27", "8.40"}},
        {32,
         {256, 128, 68, 52, 46, 36, 52},
         {"50.00", "25.00", "13.28", "10.16", "8.98", "7.03", "10.16"}},
        {64,
         {384, 192, 102, 70, 58, 54, 70},
         {"75.00", "37.50", "19.92", "13.67", "11.33", "10.55", "13.67"}},
        {128,
         {640, 320, 170, 106, 82, 90, 106},
         {"125.00", "62.50", "33.20", "20.70", "16.02", "17.58", "20.70"}},
    };
    enum { TOKENS = 37, KINDS = sizeof kinds / sizeof *kinds };
    struct model m;
    char share[20];

    (void)state;
    tiny_from_json(&m, config, sizeof config - 1, 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int k = 0; k < KINDS; k++) {
            const size_t bytes = measured(&m, rows[i].rank, kinds[k], TOKENS);
            assert_int_equal(bytes, rows[i].bytes[k] * TOKENS * LAYERS * HEADS);
            snprintf(share, sizeof share, "%.2f", 100 * (double)rows[i].bytes[k] / 512);
            assert_string_equal(share, rows[i].share[k]);
        }
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_bytes),
    };

    return cmocka_run_group_tests_name("cache_golden", tests, open_golden, close_golden);
}
