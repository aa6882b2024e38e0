/* test_prompts.c - what several samples begin with is computed once (train/score/prompts.h): which
 * part that is, that the copies of a cache are the cache to the bit, and that scores and answers
 * are those of samples scored one by one, in every state of attention and for every family. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/likelihood.h"
#include "tests/tiny_convert.h"
#include "tests/tiny_model.h"
#include "tests/tmpdir.h"
#include "train/score/prompts.h"

#include "tests/program.h"

enum { SAMPLES = 3, MORE = 5, OPTIONS = 2 };

/* ---- which part ---- */

/* 't' to 'z': tokens of text; a digit: that picture. */
static struct sample drawn(const char *what)
{
    struct sample s = {.ids = calloc(64, sizeof *s.ids),
                       .trained = calloc(64, 1),
                       .kind = calloc(64, 1),
                       .shape = calloc(8, sizeof *s.shape)};
    int32_t *image = calloc(8, sizeof *image);

    assert_true(s.ids && s.trained && s.kind && s.shape && image);
    for (; *what; what++) {
        const bool picture = *what >= '0' && *what <= '9';
        if (picture) {
            s.shape[s.images].tokens = 4;
            image[s.images++] = *what - '0';
        }
        for (int k = 0; k < (picture ? 4 : 1); k++, s.n++) {
            s.ids[s.n] = picture ? 1 : *what;
            s.kind[s.n] = picture ? TOKEN_PLACE : TOKEN_TEXT;
        }
    }
    s.image = image;
    s.prompt = s.n;
    return s;
}

static void test_share(void **state)
{
    static const struct {
        const char *what[SAMPLES];
        int64_t skip[SAMPLES];
    } cases[] = {
        {{"tt1uu", "tt1vv", "tt1uw"}, {-6, 6, 6}},
        {{"tt1uu", "tt2uu", "tt2vv"}, {0, -6, 6}}, /* another picture is no beginning */
        {{"12u", "12v", "13u"}, {-4, 4, 4}},       /* nor is one cut */
        {{"1", "1", "1u"}, {0, 0, 0}},             /* something is left to compute */
        {{"tttttttttttttttttu", "tttttttttttttttttv", "t"}, {-17, 17, 0}},
        {{"tttttttttttttttt", "tttttttttttttttt", "u"}, {0, 0, 0}}, /* 15: not worth a pass */
        {{"tttttttttttttttttttttttttttttttttuu", "tttttttttttttttttttttttttttttttttuv",
          "ttttttttttttttttt"},
         {-34, 34, 0}}, /* with the third, less would be saved */
        {{"t1uuu", "t1u", "u"}, {-5, 5, 0}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sample s[SAMPLES];
        int64_t skip[SAMPLES];
        for (int k = 0; k < SAMPLES; k++)
            s[k] = drawn(cases[i].what[k]);
        prompts_share(&(struct prompts_in){s, SAMPLES, .prompts = true}, skip);
        for (int k = 0; k < SAMPLES; k++)
            if (skip[k] != cases[i].skip[k])
                fail_msg("case %zu, sample %d: %lld", i, k, (long long)skip[k]);
        if (i == 0) { /* whole samples: what is scored is computed by each */
            s[1].trained[5] = 1;
            prompts_share(&(struct prompts_in){s, SAMPLES, .prompts = false}, skip);
            assert_true(skip[0] == 0 && skip[1] == 0);
        }
        for (int k = 0; k < SAMPLES; k++)
            tiny_sample_free(&s[k]);
    }
}

/* ---- the same bits ---- */

/* Samples that begin with the same 3 + TINY_PICTURE + 2 tokens. */
enum { HEAD = 3 + TINY_PICTURE + 2 };
static void alike(struct tiny_batch *all)
{
    static const char *const what[SAMPLES] = {"tttittttt|T", "tttittt|T", "tttitttttt|T"};
    const int64_t values = TINY_PICTURE * TINY_TOWER;

    tiny_batch(all, what, SAMPLES, 8);
    for (int s = 0; s < SAMPLES; s++) {
        all->s[s].shape = calloc(1, sizeof *all->s[s].shape);
        assert_non_null(all->s[s].shape);
        all->s[s].shape->tokens = TINY_PICTURE;
        memcpy(all->s[s].ids, all->s[0].ids, HEAD * sizeof *all->s[s].ids);
        memcpy(all->features + s * values, all->features, (size_t)values * sizeof(float));
    }
}

/* Computes the head in each sequence, or once, and copies it; leaves the rest in all->f. */
static void open_rest(struct model *m, struct tape *t, struct tiny_batch *all, struct kv_cache *c,
                      bool fork)
{
    const struct generator g = {.m = m, .t = t};
    struct err e = {0};
    int64_t skip[SAMPLES], seq;

    must(kv_cache_new(c, m, NULL, SAMPLES, 40, &e), &e);
    for (int s = 0; s < SAMPLES; s++) {
        struct sample head = all->s[s];
        head.prompt = skip[s] = HEAD;
        if (fork && s > 0) {
            must(kv_cache_fork(c, 0, s, &e), &e);
            continue;
        }
        must(batch_fill(&all->b, &head, 1, true, &e), &e);
        seq = s;
        all->leaf.rows = TINY_PICTURE;
        all->f = (struct forward){
            .batch = &all->b.batch, .features = &all->leaf, .cache = c, .seq = &seq};
        must(model_prefill(&g, &all->f, &e), &e);
    }
    must(batch_fill(&all->b, all->s, SAMPLES, true, &e), &e);
    batch_skip(&all->b, skip);
    assert_true(all->b.batch.images == 0 && all->b.batch.image_tokens == 0);
    all->f = (struct forward){.batch = &all->b.batch, .cache = c};
}

struct result {
    int32_t ids[SAMPLES][MORE];
    double logp[SAMPLES];
    double sum; /* of what is cached, in order */
};

static struct result results(struct model *m, struct tape *t, bool fork)
{
    struct generate_stats stats = {0};
    const struct generator g = {.m = m, .t = t, .max_new = MORE, .stats = &stats};
    struct continuation o[SAMPLES];
    struct generation out[SAMPLES];
    struct result r = {0};
    struct tiny_batch all;
    struct kv_cache c;
    struct err e = {0};
    int32_t option[] = {3, 9, 4};

    alike(&all);
    open_rest(m, t, &all, &c, fork);
    must(model_continue(&g, &all.f, out, &e), &e);
    for (int s = 0; s < SAMPLES; s++) {
        assert_int_equal(out[s].n, MORE);
        memcpy(r.ids[s], out[s].ids, sizeof r.ids[s]);
        assert_int_equal(c.length[s], all.s[s].prompt + MORE - 1);
        o[s] = (struct continuation){option, 3};
    }
    for (int i = 0; i < 3; i++)
        for (int64_t k = 0; k < SAMPLES * 40 * c.before[c.layers][i]; k++)
            r.sum += (double)(unsigned char)c.data[i][k] * (double)(k % 97 + 1);
    generation_free(out, SAMPLES);
    kv_cache_free(&c);
    open_rest(m, t, &all, &c, fork);
    must(model_likelihood(&g, &all.f, o, 1, r.logp, &e), &e);
    kv_cache_free(&c);
    tiny_batch_free(&all);
    return r;
}

/* The same without any sharing: one pass over whole prompts. */
static void check_whole(struct model *m, struct tape *t, const struct result *got)
{
    const struct generator g = {.m = m, .t = t, .max_new = MORE};
    struct generation out[SAMPLES];
    struct tiny_batch all;
    struct err e = {0};

    alike(&all);
    must(batch_fill(&all.b, all.s, SAMPLES, true, &e), &e);
    must(model_generate(&g, &all.f, out, &e), &e);
    for (int s = 0; s < SAMPLES; s++)
        assert_memory_equal(out[s].ids, got->ids[s], sizeof got->ids[s]);
    generation_free(out, SAMPLES);
    tiny_batch_free(&all);
}

static void test_fork(void **state)
{
    struct err e;
    struct tape *t = tape_new(&e);

    (void)state;
    assert_non_null(t);
    for (int i = -2; i < 2 * KV_METHODS; i++) { /* FULL, PARTIAL, then the methods */
        const enum kv_method method = i < 0 ? KV_NONE : (enum kv_method)(i / 2);
        struct result once, each;
        struct model m;
        tiny_model(&m, 2, true, 12);
        if (i > -2) tiny_partial(&m, 4);
        if (i >= 0) tiny_mla(&m, method, i % 2, 6);
        once = results(&m, t, true);
        each = results(&m, t, false);
        assert_memory_equal(once.ids, each.ids, sizeof once.ids);
        assert_memory_equal(once.logp, each.logp, sizeof once.logp);
        assert_true(once.sum == each.sum && once.sum != 0);
        check_whole(&m, t, &once);
        model_close(&m);
    }
    tape_free(t);
}

/* ---- runs ---- */

static const struct kind {
    const char *dir, *chat;
    int vocab; /* pieces before the added tokens */
    const char *added[8];
} kinds[] = {
    {"q25",
     "qwen2_vl",
     56,
     {"<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
      "<|video_pad|>"}}, /* a system text before the picture */
    {"next-llama", "vicuna_v1", 46, {"</s>", "<image>"}},
};

/* A BPE tokenizer of single characters. */
static void write_tokenizer(const char *path, const struct kind *k)
{
    static const char pieces[] = "abcdefghijklmnopqrstuvwxyz .Y?WTAIUSERN:";
    FILE *fp = fopen(path, "w");
    int n = 2;

    assert_non_null(fp);
    fprintf(fp, "{\"added_tokens\":[");
    for (int i = 0; k->added[i]; i++)
        fprintf(fp,
                "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                "\"rstrip\":false,\"normalized\":false,\"special\":true}",
                i ? "," : "", k->vocab + i, k->added[i]);
    fprintf(fp, "],\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,"
                "\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"type\":\"BPE\",\"unk_token\":"
                "\"<unk>\",\"fuse_unk\":false,\"byte_fallback\":false,\"merges\":[],\"vocab\":{"
                "\"<unk>\":0,\"\\n\":1");
    for (const char *p = pieces; *p; p++)
        if (!memchr(pieces, *p, (size_t)(p - pieces))) fprintf(fp, ",\"%c\":%d", *p, n++);
    for (; n < k->vocab; n++)
        fprintf(fp, ",\"x%d\":%d", n, n);
    fprintf(fp, "}}}");
    assert_int_equal(fclose(fp), 0);
}

/* Three pictures, each asked four times, in turns; and two samples without any. */
static void write_samples(const char *path)
{
    static const char *const pictures[] = {"gray1.png", "alpha_0.bmp", "cmyk.jpg"};
    FILE *fp = fopen(path, "w");

    assert_non_null(fp);
    for (int i = 0; i < 14; i++) {
        fprintf(fp, "{\"id\":\"%d\",", i);
        if (i < 12) fprintf(fp, "\"image\":\"%s\",", pictures[i % 3]);
        fprintf(fp,
                "\"conversations\":[{\"from\":\"human\",\"value\":\"%sWhat is it%.*s?\"},"
                "{\"from\":\"gpt\",\"value\":\"%s\"}],\"metric\":\"exact\","
                "\"choices\":[\"a cat.\",\"a dog.\"]}\n",
                i < 12 ? "<image>\\n" : "", i, " and and and and and", i % 2 ? "a cat." : "a dog.");
    }
    assert_int_equal(fclose(fp), 0);
}

static void write_config(void *const *state, const struct kind *k)
{
    const char *dir = *state;
    char text[2000];
    int n = snprintf(
        text, sizeof text,
        "{\"run\":{\"threads\":1,\"steps\":[\"rank\",\"stage1\",\"svd\",\"stage2\",\"evaluate\"]},"
        "\"model\":{\"path\":\"%s/m\"},"
        "\"data\":{\"train\":[{\"path\":\"%s/d.jsonl\",\"images\":\"tests/data/image\"}],"
        "\"eval\":[{\"path\":\"%s/d.jsonl\",\"images\":\"tests/data/image\",\"name\":\"seen\"}],"
        "\"cache\":\"%s/cache\",\"template\":\"%s\",\"max_length\":400},"
        "\"rank\":{\"rope_dim\":4,\"samples\":4},\"svd\":{\"samples\":4,\"low_rank\":4},"
        "\"stage1\":{\"steps\":1,\"batch_size\":2,\"lr\":1e-3},"
        "\"stage2\":{\"steps\":1,\"batch_size\":2,\"lr\":1e-3},"
        "\"evaluate\":{\"max_new_tokens\":8}}",
        dir, dir, dir, dir, k->chat);

    assert_true(n < (int)sizeof text);
    spill(tmpdir_path(state, "c.json"), text, (size_t)n);
}

/* The likelihoods of a line of each; at which lines end. */
static bool next_likelihoods(const char **at, double logp[OPTIONS])
{
    const char *list = strstr(*at, "\"logp\":[");
    char *end;

    if (!list) return false;
    list += strlen("\"logp\":[");
    for (int i = 0; i < OPTIONS; i++, list = end + 1) {
        logp[i] = strtod(list, &end);
        assert_true(end > list && *end == (i + 1 < OPTIONS ? ',' : ']'));
    }
    *at = list;
    return true;
}

/* They are the same but for rounding: how a product is rounded depends on its number of rows. 1e-4:
 * an option has up to 8 tokens here, and what rounding adds to a sum in fp32 is
 * about 1e-6 a token. */
static void check_likelihoods(void *const *state, const char *name)
{
    char path[300];
    double x[OPTIONS], y[OPTIONS];
    int n = 0;

    snprintf(path, sizeof path, "all/%s", name);
    char *all = slurp(tmpdir_path(state, path), NULL);
    snprintf(path, sizeof path, "one/%s", name);
    char *one = slurp(tmpdir_path(state, path), NULL);
    for (const char *a = all, *b = one; next_likelihoods(&a, x); n++) {
        assert_true(next_likelihoods(&b, y));
        for (int i = 0; i < OPTIONS; i++)
            if (!(fabs(x[i] - y[i]) < 1e-4)) fail_msg("%s: %.9g, not %.9g", name, x[i], y[i]);
    }
    assert_true(n > 0);
    free(all);
    free(one);
}

/* The same answers and scores, file by file, but for likelihoods. */
static void check_equal(void *const *state, const char *score)
{
    char command[600];

    snprintf(command, sizeof command,
             "rm -rf $T/all $T/one; for k in all:0 one:1; do $B/mha2mla-train --config $C --set "
             "run.dir=$T/${k%%:*} --set evaluate.batch=${k#*:} --set evaluate.score=%s || exit 1; "
             "done",
             score);
    must_run(state, command);
    must_run(state,
             "cd $T/all && n=0; for f in $(find . -name answers.jsonl) $(find . -name "
             "scores.json); do for d in . ../one; do sed 's/\"logp\":[^]]*]//' $d/$f > $d/f; done; "
             "cmp f ../one/f || exit 1; n=$((n + 1)); done; test $n -gt 2;"
             " grep -q 'computed once' train.log; ! grep -q 'computed once' ../one/train.log");
}

/* Where tokens are taken out of the cache, by the attention of whole prompts, nothing is shared. */
static void check_evicted(void *const *state)
{
    must_run(state,
             "rm -rf $T/all $T/one; for k in all:0 one:1; do $B/mha2mla-train --config $C --set "
             "run.dir=$T/${k%:*} --set evaluate.batch=${k#*:} --set 'run.steps=[\"evaluate\"]' "
             "--set 'evaluate.caches=[\"h2o:0.5\"]' || exit 1; done; "
             "cmp $T/all/base/cache-h2o:0.5/answers.jsonl $T/one/base/cache-h2o:0.5/answers.jsonl");
}

static void test_runs(void **state)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char command[300];
        snprintf(
            command, sizeof command,
            "mkdir -p $T/m && cp tests/data/vlm/%s/config.json tests/data/vlm/%s/*_config.json "
            "tests/data/vlm/%s/model.safetensors $T/m/",
            kinds[i].dir, kinds[i].dir, kinds[i].dir);
        must_run(state, command);
        write_tokenizer(tmpdir_path(state, "m/tokenizer.json"), &kinds[i]);
        write_samples(tmpdir_path(state, "d.jsonl"));
        write_config(state, &kinds[i]);
        check_equal(state, "answers");
        check_evicted(state);
        check_equal(state, "options");
        check_likelihoods(state, "base/answers.jsonl");
        check_likelihoods(state, "rope4-rank4/stage2/answers.jsonl");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_fork),
        tmpdir_test(test_runs),
    };

    return cmocka_run_group_tests_name("prompts", tests, NULL, NULL);
}
