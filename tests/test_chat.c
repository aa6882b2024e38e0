/* test_chat.c - mha2mla-chat: its answers are those of `evaluate`, what it keeps between turns
 * changes nothing, tokens are drawn as slow code draws them, and what it writes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>

#include "tests/tmpdir.h"

#include "base/signals.h"
#include "talk/answer.h"
#include "chat/options.h"
#include "talk/stream.h"
#include "tests/program.h"
#include "tests/tiny_variants.h"

#include <cjson/cJSON.h>

#define MODEL "configs/quickstart/model"

/* ---- the answers of `evaluate` ---- */

static const char no_pictures[] =
    "[{\"id\":\"t1\",\"conversations\":[{\"from\":\"human\",\"value\":\"What is at the top "
    "left?\"},"
    "{\"from\":\"gpt\",\"value\":\"a blue star\"}]},\n"
    "{\"id\":\"t2\",\"conversations\":[{\"from\":\"system\",\"value\":\"Say it.\"},"
    "{\"from\":\"human\",\"value\":\"How many?\"},{\"from\":\"gpt\",\"value\":\"two\"},"
    "{\"from\":\"human\",\"value\":\"Is the shape red?\"},{\"from\":\"gpt\",\"value\":\"no\"}]}]\n";

/* evaluate.batch 1: how a product rounds may depend on its number of rows. */
#define RUN                                                                                        \
    "$B/mha2mla-train --config $C --set model.path=" MODEL                                         \
    " --set model.tokenizer=null --set evaluate.batch=1 --set stage1.steps=2 --set "               \
    "stage2.steps=2 "                                                                              \
    "--set rank.rope_dim=8 --set 'sweep.low_rank=[2]' --set "                                      \
    "'data.eval=[{\"path\":\"'$T'/s/test.json\"},"                                                 \
    "{\"path\":\"'$T'/text.json\"}]' "                                                             \
    "--set 'run.steps=[\"rank\",\"stage1\",\"svd\",\"stage2\",\"evaluate\"]' "

static const struct talker_options greedy = {
    .chat_template = "vicuna", .threads = 1, .seed = 1, .max_new = 8, .sampling = {1, 0, 0, 1}};

static void open_talker(struct talker *t, const char *dir, const struct talker_options *how)
{
    struct err e = {0};

    must(talker_open(t, dir, how, NULL, &e), &e);
    gemm_setup(backend_library(), GEMM_F32);
}

static cJSON *read_list(void *const *state, const char *name)
{
    char *text = slurp(tmpdir_path(state, name), NULL);
    cJSON *list = cJSON_Parse(text);

    if (!cJSON_IsArray(list)) fail_msg("%s is no list", name);
    free(text);
    return list;
}

static const char *string(const cJSON *o, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(o, key));

    if (!s) fail_msg("no %s", key);
    return s;
}

/* The turns of a sample, up to its last answer. */
static void tell(void *const *state, struct talker *t, const cJSON *sample)
{
    const cJSON *turns = cJSON_GetObjectItem(sample, "conversations"), *turn;
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(sample, "image"));
    const char *image = name ? tmpdir_path(state, "s") : NULL;
    char path[1300];
    struct err e = {0};

    if (image) snprintf(path, sizeof path, "%s/%s", image, name);
    image = path;
    talk_end(&t->talk);
    turn = cJSON_GetArrayItem(turns, 0);
    const bool system = strcmp(string(turn, "from"), "system") == 0;
    must(talk_begin(&t->talk, system ? string(turn, "value") : NULL, &e), &e);
    for (turn = system ? turn->next : turn; turn->next; turn = turn->next) {
        if (strcmp(string(turn, "from"), "gpt") == 0)
            must(talk_answer(&t->talk, string(turn, "value"), &e), &e);
        else
            must(talk_ask(&t->talk, string(turn, "value"), &image, name != NULL, &e), &e);
        name = NULL;
    }
}

/* Every sample's answer is that of answers.jsonl, also by a talker with other
 * turns in its cache. */
static int check_answers(void *const *state, const char *dir, const char *jsonl)
{
    char *lines = slurp(tmpdir_path(state, jsonl), NULL), *line = lines;
    const char *const sets[] = {"s/test.json", "text.json"};
    struct talker t;
    struct answer a;
    struct err e = {0};
    int said = 0;

    open_talker(&t, dir, &greedy);
    for (int i = 0; i < 2; i++) {
        cJSON *list = read_list(state, sets[i]), *sample;
        cJSON_ArrayForEach(sample, list)
        {
            cJSON *want = cJSON_ParseWithOpts(line, NULL, false);
            assert_string_equal(string(want, "id"), string(sample, "id"));
            tell(state, &t, sample);
            must(answer_make(&t, NULL, &a, &e), &e);
            if (strcmp(a.text, string(want, "answer")) != 0)
                fail_msg("%s, %s: '%s', evaluate '%s'", dir, string(want, "id"), a.text,
                         string(want, "answer"));
            said += a.text[0] != 0;
            assert_int_equal(a.image_tokens > 0, cJSON_HasObjectItem(sample, "image"));
            answer_free(&a);
            cJSON_Delete(want);
            line = strchr(line, '\n') + 1;
        }
        cJSON_Delete(list);
    }
    assert_int_equal(*line, '\0');
    talker_close(&t);
    free(lines);
    return said;
}

static void test_as_evaluate(void **state)
{
    static const char *const made[] = {"rope8/stage1", "rope8-rank2/svd", "rope8-rank2/stage2"};

    spill(tmpdir_path(state, "text.json"), no_pictures, strlen(no_pictures));
    must_run(state, RUN);
    assert_true(check_answers(state, MODEL, "run/base/answers.jsonl") > 10);
    for (int cross = 0; cross < 2; cross++) {
        for (int i = 0; i < 3; i++) {
            char dir[60], jsonl[80];
            snprintf(dir, sizeof dir, "%s/%s/model", cross ? "cross" : "run", made[i]);
            snprintf(jsonl, sizeof jsonl, "%s/%s/answers.jsonl", cross ? "cross" : "run", made[i]);
            assert_true(check_answers(state, tmpdir_path(state, dir), jsonl) > 7);
        }
        if (!cross) must_run(state, RUN "--set rank.basis=cross --set run.dir=$T/cross");
    }
}

/* ---- what is kept between turns ---- */

static char *ask(struct talker *t, const char *text, const char *image, struct answer *a)
{
    struct err e = {0};
    char *copy;

    must(talk_ask(&t->talk, text, &image, image != NULL, &e), &e);
    must(answer_make(t, NULL, a, &e), &e);
    copy = a->text;
    a->text = NULL;
    return copy;
}

/* A second turn over the kept cache gives what a fresh prefill of all gives: the same draws, which
 * would show if the logits differed by more than their rounding. */
static void check_second_turn(struct talker *kept, struct talker *fresh, const char *one,
                              const char *two)
{
    struct answer a, b;
    struct err e = {0};
    char *first = ask(kept, "What is at the top left?", one, &a);
    const int64_t before = a.prompt_tokens;

    assert_true(a.kept_tokens == 0 && before > a.image_tokens && a.image_tokens > 0);
    fresh->choose.rng = kept->choose.rng;
    char *second = ask(kept, "And in this?", two, &a);
    assert_true(a.kept_tokens >= before && a.kept_tokens < a.prompt_tokens);
    must(talk_ask(&fresh->talk, "What is at the top left?", &one, 1, &e), &e);
    must(talk_answer(&fresh->talk, first, &e), &e);
    char *same = ask(fresh, "And in this?", two, &b);
    assert_true(b.kept_tokens == 0 && a.prompt_tokens == b.prompt_tokens);
    assert_true(a.image_tokens == b.image_tokens && a.cached_tokens == b.cached_tokens);
    assert_true(a.cache_bytes == b.cache_bytes);
    assert_string_equal(second, same);
    free(first);
    free(second);
    free(same);
}

/* The same words about another picture: kept up to that. */
static void check_other_picture(struct talker *kept, struct talker *fresh, const char *two)
{
    struct answer a, b;
    struct err e = {0};

    must(talker_clear(fresh, &e), &e);
    talk_end(&kept->talk);
    must(talk_begin(&kept->talk, NULL, &e), &e);
    kept->choose.rng = fresh->choose.rng;
    char *other = ask(kept, "What is at the top left?", two, &a);
    char *again = ask(fresh, "What is at the top left?", two, &b);
    assert_true(a.kept_tokens > 0 && a.kept_tokens + a.image_tokens < a.prompt_tokens);
    assert_true(b.kept_tokens == 0);
    assert_string_equal(other, again);
    free(other);
    free(again);
}

static void check_kept(void *const *state, const char *dir, const char *cache)
{
    const struct talker_options drawn = {
        .threads = 1, .seed = 3, .max_new = 12, .sampling = {1, 1, 0, 1}, .cache = cache};
    char one[1300], two[1300];
    struct talker kept, fresh;

    snprintf(one, sizeof one, "%s", tmpdir_path(state, "s/images/test-000000.png"));
    snprintf(two, sizeof two, "%s", tmpdir_path(state, "s/images/test-000001.png"));
    open_talker(&kept, dir, &drawn);
    open_talker(&fresh, dir, &drawn);
    check_second_turn(&kept, &fresh, one, two);
    check_other_picture(&kept, &fresh, two);
    talker_close(&kept);
    talker_close(&fresh);
}

static void test_kept(void **state)
{
    check_kept(state, MODEL, NULL);
    check_kept(state, MODEL, "q8+q4"); /* what is kept is what the prompt has read */
    /* positions in three axes, pictures with tokens around them */
    must_run(state,
             "$B/mha2mla-data tokenizer --template qwen2_vl --out $T/qtok $T/s/train.json && "
             "$B/mha2mla-train --config $C --set baseline.family=qwen2_5_vl --set "
             "model.tokenizer=$T/qtok --set data.template=qwen2_vl --set "
             "'run.steps=[\"baseline\"]' --set baseline.steps=2 --set data.min_pixels=1024");
    check_kept(state, tmpdir_path(state, "run/baseline/model"), NULL);
}

/* Where the family has no template, the tokenizer's tokens tell. */
static void test_template(void **state)
{
    static const char *const rows[][2] = {
        {"vicuna", ""},
        {"smollm2", "s#</s>#<|im_end|>#g; s#<pad>#<|im_start|>#g"},
        {"llama3", "s#</s>#<|eot_id|>#g; s#<s>#<|begin_of_text|>#g; "
                   "s#<pad>#<|start_header_id|>#g; s#<unk>#<|end_header_id|>#g"}};

    for (int i = 0; i < 3; i++) {
        setenv("NAME", rows[i][0], 1);
        setenv("EDIT", rows[i][1], 1);
        must_run(state, "cp -r " MODEL " $T/$NAME && sed -i \"$EDIT\" $T/$NAME/*token*.json && "
                        "$B/mha2mla-chat $T/$NAME -p 'How many?' -n 3 2> $T/err; cat $T/err; "
                        "grep -q \"chat template $NAME;\" $T/err && ! grep error: $T/err");
    }
}

/* The logits of the last token after one step over the cache, out[TINY_VOCAB]. */
static void extended(struct model *m, struct tape *t, const struct forward *f, float *out)
{
    struct err e = {0};

    tape_begin(t, false);
    struct tensor *got = model_extend(m, t, f, &e);
    must(got && tape_plan(t, 0, &e), &e);
    tape_forward(t);
    memcpy(out, got->data, TINY_VOCAB * sizeof *out);
}

/* The logits after a part of a cached sequence was cut off and computed again, in a larger cache,
 * are those of one prefill; 1e-5 relative: products of other numbers of rows. */
static void check_cut(struct model *m, struct tiny_batch *all, struct tape *t, int64_t keep)
{
    const int64_t seq = 0;
    float want[TINY_VOCAB], got[TINY_VOCAB];
    struct kv_cache c = {0};
    struct err e = {0};
    struct forward f = all->f;

    must(batch_fill(&all->b, all->s, 1, true, &e) &&
             kv_cache_new(&c, m, NULL, 1, 8 + TINY_PICTURE, &e),
         &e);
    all->leaf.rows = all->b.batch.image_tokens;
    for (int64_t i = 0; i < all->b.batch.images; i++)
        all->b.shapes[i].tokens = TINY_PICTURE;
    f.cache = &c;
    f.seq = &seq;
    extended(m, t, &f, want);
    must(kv_cache_reserve(&c, 50, &e), &e);
    kv_cache_rewind(&c, 0, keep, 0);
    assert_int_equal(kv_cache_bytes(&c), keep * TINY_LAYERS * model_cache_values(m) * 4);
    batch_skip(&all->b, &keep);
    extended(m, t, &f, got);
    assert_true(tiny_distance(want, got, TINY_VOCAB) < 1e-5);
    kv_cache_free(&c);
}

static void test_cut(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) {
        struct tiny_batch all;
        struct model m;
        struct tape *t = new_tape();

        open_variant(&m, &all, &variants[v]);
        check_cut(&m, &all, t, v % 2 ? 2 : 3); /* the picture begins at 3 */
        model_close(&m);
        tiny_batch_free(&all);
        tape_free(t);
    }
}

/* ---- what is drawn ---- */

enum { V = 14 };

/* Token i's place in the order of the logits. */
static int place_of(const double *x, int i)
{
    int place = 0;

    for (int k = 0; k < V; k++)
        place += x[k] > x[i] || (x[k] == x[i] && k < i);
    return place;
}

/* The next token by the definitions, one token at a time. */
static int32_t slow_choice(const struct sampling *s, const float *logits, const bool *seen,
                           struct rng *rng)
{
    double x[V], p[V], all = 0, kept = 0;
    int at[V];

    for (int i = 0; i < V; i++) {
        float by = (float)s->penalty;
        x[i] = !seen[i] ? logits[i] : logits[i] > 0 ? logits[i] / by : logits[i] * by;
    }
    for (int i = 0; i < V; i++)
        at[place_of(x, i)] = i;
    if (s->temperature == 0) return at[0];
    const int k = s->top_k && s->top_k < V ? (int)s->top_k : V;
    for (int i = 0; i < k; i++)
        all += p[i] = exp((x[at[i]] - x[at[0]]) / s->temperature);
    int n = 0;
    for (; n < k && (n == 0 || kept / all < s->top_p); n++)
        kept += p[n];
    double u = rng_uniform(rng) * kept, sum = 0;
    for (int i = 0; i < n; i++)
        if ((sum += p[i]) > u) return at[i];
    return at[n - 1];
}

static void test_choice(void **state)
{
    static const struct sampling rows[] = {{1, 0, 0, 1},     {1.3, 0, 0, 1},   {1, 1, 0, 1},
                                           {1, 0.7, 3, 1},   {1, 1.5, 0, 0.6}, {1.2, 0.9, 6, 0.8},
                                           {0.5, 2, 20, 0.3}};
    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        struct choose c;
        struct err e = {0};
        struct rng values, same;
        int first = 0;

        must(choose_open(&c, &rows[r], 9, V, &e), &e);
        rng_seed(&values, 5, r);
        same = c.rng;
        for (int n = 0; n < 2000; n++) {
            float logits[V];
            bool seen[V] = {false};
            int32_t ids[3];
            for (int i = 0; i < V; i++) /* with equal ones among them */
                logits[i] = (float)floor(rng_normal(&values) * 8) / 4;
            for (int i = 0; i < 3; i++)
                seen[ids[i] = (int32_t)rng_below(&values, V)] = true;
            choose_begin(&c, ids, 2);
            choose_saw(&c, ids[2]);
            int32_t want = slow_choice(&rows[r], logits, seen, &same);
            double x[V];
            for (int i = 0; i < V; i++)
                x[i] = logits[i];
            first += place_of(x, want) == 0;
            assert_int_equal(choose_next(&c, logits), want);
        }
        assert_true(r == 0 ? first == 2000 : first < 2000); /* the row does something */
        choose_close(&c);
    }
}

/* However small the temperature is, by which logits become infinite: the largest is drawn. */
static void test_cold(void **state)
{
    static const double rows[] = {5e-324, 1e-300, 1e-40};

    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        const struct sampling how = {.penalty = 1, .temperature = rows[r], .top_p = 1};
        struct choose c;
        struct err e = {0};
        must(choose_open(&c, &how, 9, V, &e), &e);
        for (int n = 0; n < 50; n++) {
            float logits[V];
            for (int i = 0; i < V; i++)
                logits[i] = (float)((i * 5 + n) % V - 5);
            int want = 0;
            for (int i = 1; i < V; i++)
                if (logits[i] > logits[want]) want = i;
            assert_int_equal(choose_next(&c, logits), want);
        }
        choose_close(&c);
    }
}

/* ---- what is written ---- */

/* Streams a text token by token; checks that only whole characters come, and returns all of it. */
static char *streamed(const char *text, const char *const *stops, size_t n_stops, bool *stopped)
{
    struct err e = {0};
    struct tokenizer *tk = tokenizer_load(MODEL "/tokenizer.json", &e);
    struct tokens t = {0};
    int32_t ids[200];
    char *out = NULL;
    size_t len = 0, pieces = 0, was = 0;
    struct stream s = {
        .tokenizer = tk, .stops = stops, .n_stops = n_stops, .out = open_memstream(&out, &len)};

    must(tk && tokenizer_encode(tk, NULL, text, strlen(text), false, &t, &e), &e);
    assert_true(t.n <= 200);
    for (size_t i = 0; i < t.n && !s.stopped; i++) {
        ids[i] = t.v[i].id;
        must(stream_grow(&s, ids, (int64_t)i + 1, &e), &e);
        for (size_t k = 0, c; k < len; k += c)
            assert_true((c = text_utf8_len(out + k, len - k)) > 0);
        pieces += len > was;
        was = len;
    }
    must(stream_end(&s, &e), &e);
    assert_int_equal(fclose(s.out), 0);
    assert_string_equal(out, s.text);
    if (n_stops == 0 && strlen(text) > 12) assert_true(pieces > 2);
    *stopped = s.stopped;
    stream_free(&s);
    tokens_free(&t);
    tokenizer_free(tk);
    return out;
}

static void test_stream(void **state)
{
    static const char *const stops[] = {"##END", "\n\nQ:"};
    static const struct {
        const char *text, *want;
        size_t stops;
        bool stopped;
    } rows[] = {
        {"a blue star and more", "a blue star and more", 0, false},
        {"  na\xc3\xafve \xf0\x9f\x8e\x89\xf0\x9f\x8e\x89 \xe6\x98\x9f!\n ",
         "na\xc3\xafve \xf0\x9f\x8e\x89\xf0\x9f\x8e\x89 \xe6\x98\x9f!", 0, false},
        {"one ##END two", "one", 2, true},
        {"one ##EN two #", "one ##EN two #", 2, false},
        {"one ###END two", "one #", 2, true},
        {"one\n\nQ: two", "one", 2, true},
        {"one\n\nA: two ##E", "one\n\nA: two ##E", 2, false},
        {"##END", "", 2, true},
        {" \n ", "", 0, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool stopped;
        char *got = streamed(rows[i].text, stops, rows[i].stops, &stopped);
        assert_string_equal(got, rows[i].want);
        assert_int_equal(stopped, rows[i].stopped);
        free(got);
    }
}

/* ---- the program ---- */

#define CHAT "$B/mha2mla-chat " MODEL " --threads 1 "
#define PICTURE "--image $T/s/images/test-000000.png "

static void test_json(void **state)
{
    static const char *const keys[] = {
        "model",        "answer",       "finish_reason",     "prompt_tokens",
        "image_tokens", "kept_tokens",  "completion_tokens", "prefill_s",
        "decode_s",     "tokens_per_s", "cache_bytes",       "cache_bytes_original",
        "cache_format"};
    int n = 0;

    must_run(state, CHAT PICTURE "-p 'What is at the top left?' --json > $T/one 2> $T/err && "
                                 "test $(wc -l < $T/one) = 1 && "
                                 "tail -1 $T/err | grep -q '(16 of pictures).*100.00 %), f32$'");
    char *text = slurp(tmpdir_path(state, "one"), NULL);
    cJSON *o = cJSON_Parse(text), *item;
    cJSON_ArrayForEach(item, o) assert_string_equal(item->string, keys[n++]);
    assert_int_equal(n, sizeof keys / sizeof *keys);
    assert_string_equal(string(o, "finish_reason"), "stop");
    assert_string_equal(string(o, "cache_format"), "f32");
    cJSON_Delete(o);
    free(text);
    /* 8 rows of 128 values: in q4 72 bytes each for 512 */
    must_run(state,
             CHAT PICTURE "-p 'What is at the top left?' --cache q4 --json > $T/one 2> $T/err && "
                          "grep -q '\"cache_format\":\"q4\"' $T/one && "
                          "tail -1 $T/err | grep -q ' (14.06 %), q4$'");
    must_run(state, "printf 'What is at the top left?' | " CHAT PICTURE "-p - -n 1 --json | "
                    "grep -q '\"finish_reason\":\"length\".*\"completion_tokens\":1,'");
    must_run(state, CHAT PICTURE "-p 'What is at the top left?' --stop ' ' --json | "
                                 "grep -q '\"answer\":\"a\",\"finish_reason\":\"stop\"'");
    must_run(state,
             CHAT "--top-k 3 -p 'Say.'"); /* which greedy answers do not use, and it is said */
    must_say(state, "--top-k: not used, --temp is 0");
}

/* Both models' answers, and what their caches hold; the second chat is as the first. */
static void test_compare(void **state)
{
    must_run(state, "cp -r " MODEL " $T/m && " CHAT PICTURE "--compare $T/m -p 'How many shapes?' "
                    "> $T/two 2> $T/err && test $(wc -l < $T/two) = 2 && test \"$(sed 's/.*: //' "
                    "$T/two | uniq | wc -l)\" = 1 && grep -q '^configs/quickstart/model: [0-9]* "
                    "tokens in' $T/err && grep -q '/m: [0-9]* tokens in' $T/err");
    must_run(state,
             "printf '%s\\n' 'How many shapes?' 'And now?' /retry /stats '/save '$T/t.json | " CHAT
                 PICTURE "--compare $T/m --json > $T/six 2> $T/err && "
             "test $(wc -l < $T/six) = 6 && "
             "test $(sed 's/.*\"answer\":\\(\"[^\"]*\"\\).*/\\1/' $T/six | uniq | wc -l) -le 3"
             " && grep -q '4 turns, 1 picture,' $T/err");
    /* what was saved is a set for training */
    must_run(state, RUN "--dry-run --set 'data.train=[{\"path\":\"'$T'/t.json\"}]' --set "
                        "'data.eval=[]' --set 'run.steps=[\"rank\"]' > $T/dry; "
                        "grep -q '^data.train: 1 sample, ' $T/dry");
}

/* A rotation that a model's cache cannot have is left out, and that is said. */
static void test_rotation(void **state)
{
#define POINT(rank) "$T/run/rope8-rank" rank "/svd/model"
#define ROTATED(rank) "$B/mha2mla-chat " POINT(rank) " --threads 1 --cache q8+q4+rotate -n 1 -p x "
    must_run(state, RUN "--set 'run.steps=[\"rank\",\"stage1\",\"svd\"]' --set 'data.eval=[]' "
                        "--set 'sweep.low_rank=[2,1]'");
    must_run(state, ROTATED("2") "--compare " MODEL " 2> $T/err && grep -q '^" MODEL ": --cache "
                                 "q8+q4+rotate: held in q8+q4, as it has no latents that could be "
                                 "rotated$' $T/err && test $(grep -c ': held in ' $T/err) = 1 && "
                                 "grep -q '/svd/model: .* %), q8+q4+rotate$' $T/err");
    must_run(state, ROTATED("1") "2> $T/err && grep -q '/svd/model: --cache q8+q4+rotate: held in "
                                 "q8+q4, as of its latents no width is a multiple of 8, so "
                                 "nothing of them is rotated$' $T/err && "
                                 "tail -1 $T/err | grep -q ' %), q8+q4$'");
}

/* After /clear nothing is left of the conversation; a picture counts for the next question only. */
static void test_commands(void **state)
{
    must_run(state,
             "Q='What is at the top left?'; P=$T/s/images/test-000002.png; printf '%s\\n' "
             "\"/image $P\" \"$Q\" \"$Q\" /clear \"/image $P\" \"$Q\" '' /help /quit \"$Q\" | " CHAT
             "--json > $T/three 2> $T/err && sed 's/.*\"answer\"/\"answer\"/; "
             "s/,\"prefill_s.*//' $T/three > $T/short && test $(wc -l < $T/short) = 3 && "
             "test \"$(sed -n 1p $T/short)\" = \"$(sed -n 3p $T/short)\" && "
             "sed -n 2p $T/short | grep -q '\"image_tokens\":16,\"kept_tokens\":[1-9]' && "
             "sed -n 3p $T/short | grep -q '\"image_tokens\":16,\"kept_tokens\":0,'");
}

static void refused(void *const *state, const char *command, const char *text)
{
    int rc = run(state, command);
    char *out = output(state), *line = strstr(out, "mha2mla-chat: error: ");

    if (rc != 1 || !line || !strstr(line, text) || strchr(line, '\n') != line + strlen(line) - 1)
        fail_msg("%s: status %d, wanted an error with '%s', got:\n%s", command, rc, text, out);
    free(out);
}

static void test_bad_input(void **state)
{
    static const char *const rows[][2] = {
        {"$B/mha2mla-chat", "MODEL_DIR is missing"},
        {"$B/mha2mla-chat $T/none -p x", "none"},
        {"$B/mha2mla-chat a b", "b: not understood"},
        {CHAT "-p x --nothing", "--nothing: unknown option; see --help"},
        {CHAT "-p x -y", "-y: unknown option; see --help"},
        {CHAT "-p x --json=1", "--json=1: takes no value"},
        {CHAT "-p", "-p: its value is missing"},
        {CHAT "--system", "--system: its value is missing"},
        {CHAT "-n", "-n: a whole number from 1 to 1048576 is needed, found \"\""},
        {CHAT "--temp", "--temp: a number from 0 to 100 is needed, found \"\""},
        {CHAT "--cache", "--cache: \"\" is no kind of cache; there are f32, bf16"},
        {CHAT "--cache ''", "--cache: \"\" is no kind of cache; there are f32, bf16"},
        {CHAT "-p x -n 0", "-n: a whole number from 1 to 1048576 is needed, found \"0\""},
        {CHAT "-p x --top-p nan", "--top-p: a number from"},
        {CHAT "-p x --seed 1.5", "--seed: a whole number"},
        {CHAT "-p x --seed 1 --seed 2", "--seed is given twice"},
        {CHAT "-p x --stop ''", "--stop: is empty"},
        {CHAT "-p x --template llama4", "no chat template is named \"llama4\""},
        {CHAT "-p x --template llama3", "which the chat template llama3 needs"},
        {CHAT "-p x --image $T/none.png", "none.png"},
        {CHAT "-p x --image $T/c.json", "c.json"},
        {CHAT "-p 'look <image>'", "1 <image> mark for 0 pictures"},
        {CHAT PICTURE "-p '<image> and <image>'", "2 <image> marks for 1 picture"},
        {CHAT "-p 'a <video>'", "the mark \"<video>\" is not read"},
        {CHAT "-p \"$(seq 3000)\"", "tokens, max_position_embeddings of"},
        {CHAT "-p \"$(printf '\\377')\"", "UTF-8"},
        {CHAT "-p x --compare $T/none", "none"},
        {"printf 'a\\0b' | " CHAT "-p -", "zero byte at offset 1"},
        {"echo /nothing | " CHAT, "/nothing: no such command"},
        {"echo /retry | " CHAT, "/retry: nothing has been answered"},
        {"echo /image $T/none.png | " CHAT, "none.png"},
        {"echo /save $T/c.json | " CHAT, "c.json: is there already"},
        {CHAT "-p x --cache q5", "--cache: \"q5\" is no kind of cache; there are f32, bf16"},
        {CHAT "-p x --cache q5", "as in q8+q4 (rotated keys + latents) or q8+q4+rotate\n"},
        {CHAT "-p x --cache f32+rotate", "it is for those that are packed, as in q8\n"},
        {CHAT "-p x --cache q4+exact", "--cache: \"q4+exact\" is for scoring only"},
        {CHAT "-p x --cache kivi4k", "--cache: \"kivi4k\" is for scoring only"},
        {CHAT "-p x --cache h2o:2", "--cache: \"h2o:2\" is for scoring only"},
        {CHAT "--image $T/big.bmp -p x --memory-limit 0.09",
         "6000x6000 pixels take 103.02 MiB to read and process, --memory-limit or the machine "
         "leaves "},
        {CHAT "-p x --memory-limit 0.001", ": lower -n, or raise --memory-limit\n"},
        {CHAT "-p x --cache h2o:0.5", "--cache: \"h2o:0.5\" is for scoring only"},
        {CHAT "-p x --cache q8 --cache q4", "--cache is given twice"},
        {CHAT "-p x --cache q8+q4+rotate", "has latents that are rotated, and this model has none"},
        {CHAT "-p x > /dev/full", "standard output"},
    };

    /* 6000 x 6000 black pixels, which take more to read than the limit has */
    must_run(state,
             "printf 'BM\\066\\363\\157\\006\\000\\000\\000\\000\\066\\000\\000\\000\\050\\000"
             "\\000\\000\\160\\027\\000\\000\\160\\027\\000\\000\\001\\000\\030\\000' > $T/big.bmp "
             "&& truncate -s 108000054 $T/big.bmp");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refused(state, rows[i][0], rows[i][1]);
}

static ssize_t interrupting(void *cookie, const char *bytes, size_t n)
{
    (void)cookie;
    (void)bytes;
    signals_note(SIGINT);
    return (ssize_t)n;
}

/* SIGINT ends an answer, of which what was written is kept, and harms nothing: before its prompt is
 * made and after its first token. */
static void test_interrupted(void **state)
{
    FILE *out = fopencookie(NULL, "w", (cookie_io_functions_t){.write = interrupting});
    struct talker t;
    struct answer a;
    struct err e = {0};
    char image[1300];
    const char *const images[] = {image};

    snprintf(image, sizeof image, "%s", tmpdir_path(state, "s/images/test-000002.png"));
    assert_non_null(out);
    open_talker(&t, MODEL, &greedy);
    char *whole = ask(&t, "What is at the top left?", image, &a);
    const int64_t cached = a.cached_tokens;
    assert_true(a.finish == FINISH_STOP && a.new_tokens > 2);
    must(talker_clear(&t, &e), &e);
    must(talk_ask(&t.talk, "What is at the top left?", images, 1, &e), &e);
    signals_note(SIGINT);
    assert_false(answer_make(&t, NULL, &a, &e));
    signals_forget();
    must(answer_make(&t, out, &a, &e), &e);
    assert_true(a.finish == FINISH_INTERRUPTED && a.new_tokens == 1 && a.kept_tokens == 0);
    assert_true(a.text[0] && strlen(a.text) < strlen(whole));
    assert_memory_equal(a.text, whole, strlen(a.text));
    answer_free(&a);
    signals_forget();
    assert_int_equal(signals_came(), 0);
    assert_true(talk_forget_answer(&t.talk));
    must(answer_make(&t, NULL, &a, &e), &e);
    assert_string_equal(a.text, whole);
    assert_int_equal(a.cached_tokens, cached);
    assert_int_equal(a.kept_tokens, a.prompt_tokens - 1);
    answer_free(&a);
    fclose(out);
    signals_forget();
    free(whole);
    talker_close(&t);
}

/* A chat that waits for what is written to *in. */
static pid_t start_waiting(void *const *state, FILE **in)
{
    must_run(state, "rm -f $T/in && mkfifo $T/in");
    pid_t pid = start(*state, "exec " CHAT "< $T/in 2> $T/err");

    *in = fopen(tmpdir_path(state, "in"), "w");
    fputs("/help\n", *in);
    fflush(*in);
    for (int i = 0; i < 500 && run(state, "grep -q Ctrl-C $T/err") != 0; i++)
        sleep_ms(20);
    return pid;
}

/* At the prompt it leaves, also with half a line typed. */
static void test_interrupted_prompt(void **state)
{
    static const char *const typed[] = {"", "What is", "/he"};
    FILE *in;

    for (int i = 0; i < 3; i++) {
        pid_t pid = start_waiting(state, &in);
        fputs(typed[i], in);
        fflush(in);
        sleep_ms(200); /* it looks for a signal ten times a second */
        kill(pid, SIGINT);
        assert_int_equal(finish(pid), 128 + SIGINT);
        fclose(in);
    }
}

/* An answer that it ends before its first token is no mistake: it may come at any time after a
 * question, at which the chat leaves (it was not read yet) or goes on. */
static void test_interrupted_early(void **state)
{
    FILE *in;

    for (int i = 0; i < 10; i++) {
        pid_t pid = start_waiting(state, &in);
        fputs("What is at the top left of all this?\n", in);
        fflush(in);
        sleep_ms(i / 4);
        kill(pid, SIGINT);
        sleep_ms(100);
        fclose(in);
        const int status = finish(pid);
        if (status != 0 && status != 128 + SIGINT) fail_msg("status %d", status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_as_evaluate),       program_test(test_kept),
        program_test(test_template),          cmocka_unit_test(test_cut),
        cmocka_unit_test(test_choice),        cmocka_unit_test(test_cold),
        cmocka_unit_test(test_stream),        program_test(test_json),
        program_test(test_compare),           program_test(test_rotation),
        program_test(test_commands),          program_test(test_bad_input),
        program_test(test_interrupted),       program_test(test_interrupted_prompt),
        program_test(test_interrupted_early),
    };

    return cmocka_run_group_tests_name("chat", tests, NULL, NULL);
}
