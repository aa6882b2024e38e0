/* test_schema.c - the config engine on a small table with a row of every type: exact messages,
 * overrides, the dump and reading it back, differences, the reference, and hostile files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/schema/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum kind { KIND_HIGH, KIND_LOW, KIND_UNIFORM };

struct source {
    const char *path;
    double weight;
    struct schema_ints crop;
};

struct config {
    const char *name;
    bool verbose;
    int64_t seed;
    struct {
        int64_t low_rank;
        enum kind kind;
        double ratio;
        bool has_ratio;
    } svd;
    struct {
        double lr;
        struct schema_doubles betas;
        struct schema_ints warmup;
        bool has_warmup;
    } optim;
    const char *note;
    struct schema_enums steps;
    struct schema_strings tags;
    struct {
        struct schema_objects train;
    } data;
};

static const struct schema_row source_rows[] = {
    {"path", SCHEMA_STRING(struct source, path), .min_len = 1, .help = "LLaVA JSON file"},
    {"weight", SCHEMA_DOUBLE(struct source, weight), .def = "1", .min = SCHEMA_ABOVE(0),
     .may_change = true, .help = "how often it is drawn"},
    {"image.crop", SCHEMA_INTS(struct source, crop), .def = "[]", .max_len = 4,
     .min = SCHEMA_FROM(0), .help = "box, in pixels"},
};
static const struct schema source_schema = SCHEMA(struct source, source_rows);

/* "svd.ratio" is separated from its group: the dump has to bring them together. */
static const struct schema_row rows[] = {
    {"name", SCHEMA_STRING(struct config, name), .help = "of the experiment"},
    {"verbose", SCHEMA_BOOL(struct config, verbose), .def = "false", .may_change = true,
     .help = "say more"},
    {"seed", SCHEMA_INT(struct config, seed), .def = "1", .help = "of all random numbers"},
    {"svd.low_rank", SCHEMA_INT(struct config, svd.low_rank), .def = "64", .min = SCHEMA_FROM(1),
     .max = SCHEMA_TO(4096), .help = "rank of the latent, in columns"},
    {"svd.kind", SCHEMA_ENUM(struct config, svd.kind, "high", "low", "uniform"),
     .def = "\"uniform\"", .help = "which pairs keep RoPE: a | b"},
    {"optim.lr", SCHEMA_DOUBLE(struct config, optim.lr), .def = "1e-4", .min = SCHEMA_ABOVE(0),
     .max = SCHEMA_TO(1), .may_change = true, .help = "peak learning rate"},
    {"optim.betas", SCHEMA_DOUBLES(struct config, optim.betas), .def = "[0.9, 0.95]", .min_len = 2,
     .max_len = 2, .min = SCHEMA_FROM(0), .max = SCHEMA_BELOW(1), .help = "decay of the moments"},
    {"optim.warmup", SCHEMA_INTS(struct config, optim.warmup),
     SCHEMA_NULL(struct config, optim.has_warmup), .def = "null", .min_len = 1, .help = "in steps"},
    {"svd.ratio", SCHEMA_DOUBLE(struct config, svd.ratio),
     SCHEMA_NULL(struct config, svd.has_ratio), .def = "null", .max = SCHEMA_BELOW(1),
     .help = "share of the energy"},
    {"note", SCHEMA_STRING(struct config, note), .nullable = true, .def = "null", .max_len = 5,
     .may_change = true, .help = "free text"},
    {"steps", SCHEMA_ENUMS(struct config, steps, "rank", "stage1", "svd"), .def = "[\"rank\"]",
     .min_len = 1, .help = "the pipeline"},
    {"tags", SCHEMA_STRINGS(struct config, tags), .def = "[]", .help = "free words"},
    {"data.train", SCHEMA_OBJECTS(struct config, data.train, source_schema), .def = "[]",
     .help = "where samples come from"},
};
static const struct schema schema = SCHEMA(struct config, rows);

static bool load(struct config *c, const char *text, const char *const *sets, size_t nsets,
                 struct err *e)
{
    struct jsonc doc;
    bool ok;

    memset(c, 0, sizeof *c);
    if (!jsonc_parse(&doc, "c.json", text, strlen(text), e)) return false;
    ok = schema_load_doc(&schema, c, &doc, sets, nsets, e);
    jsonc_close(&doc);
    return ok;
}

static const char full[] =
    "// an experiment\n"
    "{\"name\": \"a\\n\\\"\xc3\xa9\\\\ // b\", \"verbose\": true,\n"
    " \"seed\": 9007199254740993, /* above 2^53 */\n"
    " \"svd\": {\"low_rank\": 4.0, \"kind\": \"low\", \"ratio\": 0.1},\n"
    " \"optim\": {\"lr\": 3e-5, \"betas\": [0, 0.999], \"warmup\": [3, 4]},\n"
    " \"note\": \"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\",\n"
    " \"steps\": [\"svd\", \"rank\"], \"tags\": [\"x\", \"\"],\n"
    " \"data\": {\"train\": [{\"path\": \"p\"},\n"
    "   {\"path\": \"q\", \"weight\": 0.3333333333333333,\n"
    "    \"image\": {\"crop\": [1, 2]}}]}}\n";

static void test_table(void **state)
{
    struct err e = {0};

    (void)state;
    if (!schema_check(&schema, &e)) fail_msg("%s", e.msg);
}

static void test_defaults(void **state)
{
    struct config c;
    struct err e = {0};

    (void)state;
    assert_true(load(&c, "{\"name\": \"n\"}", NULL, 0, &e));
    assert_string_equal(c.name, "n");
    assert_false(c.verbose);
    assert_int_equal(c.svd.low_rank, 64);
    assert_int_equal(c.svd.kind, KIND_UNIFORM);
    assert_false(c.svd.has_ratio);
    assert_true(c.optim.lr == 1e-4);
    assert_int_equal(c.optim.betas.n, 2);
    assert_true(c.optim.betas.v[1] == 0.95);
    assert_false(c.optim.has_warmup);
    assert_null(c.note);
    assert_int_equal(c.steps.n, 1);
    assert_int_equal(c.tags.n, 0);
    assert_int_equal(c.data.train.n, 0);
    schema_free(&schema, &c);
    schema_free(&schema, &c); /* twice is fine */
}

static void test_values(void **state)
{
    const struct source *src;
    struct config c;
    struct err e = {0};

    (void)state;
    assert_true(load(&c, full, NULL, 0, &e));
    assert_string_equal(c.name, "a\n\"\xc3\xa9\\ // b");
    assert_true(c.verbose);
    assert_true(c.seed == 9007199254740993);
    assert_int_equal(c.svd.low_rank, 4);
    assert_int_equal(c.svd.kind, KIND_LOW);
    assert_true(c.svd.has_ratio && c.svd.ratio == 0.1);
    assert_true(c.optim.has_warmup && c.optim.warmup.n == 2 && c.optim.warmup.v[1] == 4);
    assert_int_equal(c.steps.v[0], 2);
    assert_int_equal(c.steps.v[1], 0);
    assert_string_equal(c.tags.v[1], "");
    src = c.data.train.v;
    assert_int_equal(c.data.train.n, 2);
    assert_string_equal(src[0].path, "p");
    assert_true(src[0].weight == 1 && src[0].crop.n == 0);
    assert_true(src[1].weight == 0.3333333333333333 && src[1].crop.v[1] == 2);
    schema_free(&schema, &c);
}

struct bad_file {
    const char *text, *message;
};

/* Every file without a name lacks it; the errors here come before that one. */
static const struct bad_file bad_files[] = {
    {"{}", "c.json: name: must be given (of the experiment)"},
    {"[]", "c.json:1: an object is needed, found a list"},
    {"{\"a\": 1,}", "c.json:1:8: a trailing comma is not allowed before }, near ',}'"},
    {"{\n\"svd\": {\n\"lowrank\": 4}}",
     "c.json:3: svd.lowrank: unknown key; did you mean \"low_rank\"?"},
    {"{\"sdv\": {}}", "c.json:1: sdv: unknown key; did you mean \"svd\"?"},
    {"{\"low_rnak\": 4}", "c.json:1: low_rnak: unknown key; did you mean \"svd.low_rank\"?"},
    {"{\"svd.low_rank\": 4}",
     "c.json:1: svd.low_rank: a key with a dot; groups are objects in each other"},
    {"{\"zzzzzzzzz\": 4}",
     "c.json:1: zzzzzzzzz: unknown key; known here: name, verbose, seed, svd, "
     "optim, note, steps, tags, data"},
    {"{\"optim\": {\"q\\nq\": 4}}",
     "c.json:1: optim.q\\nq: unknown key; known here: lr, betas, warmup"},
    {"{\"svd\": 4}", "c.json:1: svd: an object is needed, found the number 4"},
    {"{\"svd\": {\"low_rank\": \"4\"}}",
     "c.json:1: svd.low_rank: a number is needed, found the string \"4\""},
    {"{\"svd\": {\"low_rank\":\n 0}}", "c.json:1: svd.low_rank: must be 1..4096, found 0"},
    {"{\"svd\": {\"low_rank\": 4097}}", "c.json:1: svd.low_rank: must be 1..4096, found 4097"},
    {"{\"svd\": {\"low_rank\": 4.5}}",
     "c.json:1: svd.low_rank: a whole number is needed, found 4.5"},
    {"{\"svd\": {\"low_rank\": null}}", "c.json:1: svd.low_rank: a number is needed, found null"},
    {"{\"svd\": {\"low_rank\": {}}}",
     "c.json:1: svd.low_rank: a number is needed, found an object"},
    {"{\"seed\": 9223372036854775808}",
     "c.json:1: seed: too big for a whole number of 64 bits, found 9223372036854775808"},
    {"{\"seed\": 1e17}",
     "c.json:1: seed: too big for a point or an exponent, write its digits, found 1e17"},
    {"{\"seed\": 1e999}",
     "c.json:1: seed: too big for a point or an exponent, write its digits, found 1e999"},
    {"{\"svd\": {\"kind\": \"hi\"}}",
     "c.json:1: svd.kind: one of high, low, uniform; found \"hi\"; did you mean \"high\"?"},
    {"{\"svd\": {\"kind\": \"xyz\"}}",
     "c.json:1: svd.kind: one of high, low, uniform; found \"xyz\""},
    {"{\"svd\": {\"kind\": 1}}",
     "c.json:1: svd.kind: one of high, low, uniform; found the number 1"},
    {"{\"svd\": {\"ratio\": 1}}", "c.json:1: svd.ratio: must be below 1, found 1"},
    {"{\"svd\": {\"ratio\": true}}", "c.json:1: svd.ratio: a number or null is needed, found true"},
    {"{\"optim\": {\"lr\": 0}}", "c.json:1: optim.lr: must be above 0 and at most 1, found 0"},
    {"{\"optim\": {\"lr\": 1.5}}", "c.json:1: optim.lr: must be above 0 and at most 1, found 1.5"},
    {"{\"optim\": {\"lr\": -1e999}}",
     "c.json:1: optim.lr: too big for a number of 64 bits, found -1e999"},
    {"{\"optim\": {\"lr\": NaN}}", "c.json:1:18: a value is needed, near 'NaN}}'"},
    {"{\"optim\": {\"betas\": [0.9]}}", "c.json:1: optim.betas: needs 2 elements, found 1"},
    {"{\"optim\": {\"betas\": [0.9,\n1]}}",
     "c.json:2: optim.betas[1]: must be at least 0 and below 1, found 1"},
    {"{\"optim\": {\"betas\": 1}}",
     "c.json:1: optim.betas: a list of numbers is needed, found the number 1"},
    {"{\"optim\": {\"warmup\": []}}", "c.json:1: optim.warmup: needs at least 1 element, found 0"},
    {"{\"optim\": {\"warmup\": \"x\"}}",
     "c.json:1: optim.warmup: a list of numbers or null is needed, found the string \"x\""},
    {"{\"note\": \"abcdef\"}", "c.json:1: note: needs at most 5 characters, found 6"},
    {"{\"name\": 4}", "c.json:1: name: a string is needed, found the number 4"},
    {"{\"verbose\": 1}", "c.json:1: verbose: true or false is needed, found the number 1"},
    {"{\"steps\": [\"rank\", \"stag1\"]}",
     "c.json:1: steps[1]: one of rank, stage1, svd; found \"stag1\"; did you mean \"stage1\"?"},
    {"{\"tags\": [\"x\", 4]}", "c.json:1: tags[1]: a string is needed, found the number 4"},
    {"{\"data\": {\"train\": {}}}",
     "c.json:1: data.train: a list of objects is needed, found an object"},
    {"{\"data\": {\"train\": [4]}}",
     "c.json:1: data.train[0]: an object is needed, found the number 4"},
    {"{\"data\": {\"train\": [{\"path\": \"p\"},\n{}]}}",
     "c.json:2: data.train[1].path: must be given (LLaVA JSON file)"},
    {"{\"data\": {\"train\": [{\"path\": \"\"}]}}",
     "c.json:1: data.train[0].path: needs at least 1 character, found 0"},
    {"{\"data\": {\"train\": [{\"path\": \"p\",\n\"image\": {\"crop\": [0, -1]}}]}}",
     "c.json:2: data.train[0].image.crop[1]: must be at least 0, found -1"},
    {"{\"data\": {\"train\": [{\"path\": \"p\", \"image\": {\"crop\": [0, 0, 0, 0, 0]}}]}}",
     "c.json:1: data.train[0].image.crop: needs at most 4 elements, found 5"},
    {"{\"data\": {\"train\": [{\"weigth\": 1}]}}",
     "c.json:1: data.train[0].weigth: unknown key; did you mean \"weight\"?"},
};

static void test_messages(void **state)
{
    static const struct config zero;

    (void)state;
    for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++) {
        struct config c;
        struct err e = {0};
        assert_false(load(&c, bad_files[i].text, NULL, 0, &e));
        assert_string_equal(e.msg, bad_files[i].message);
        assert_memory_equal(&c, &zero, sizeof c);
    }
}

struct bad_set {
    const char *set, *message;
};

static const struct bad_set bad_sets[] = {
    {"verbose", "--set 2: KEY=VALUE is needed, found \"verbose\""},
    {"=4", "--set 2: : unknown key; known here: name, verbose, seed, svd, optim, note, steps, "
           "tags, data"},
    {"svd.lowrank=4", "--set 2: svd.lowrank: unknown key; did you mean \"low_rank\"?"},
    {"svdd.low_rank=4", "--set 2: svdd: unknown key; did you mean \"svd\"?"},
    {"svd.low_rank=0", "--set 2: svd.low_rank: must be 1..4096, found 0"},
    {"svd.low_rank=four", "--set 2: svd.low_rank: a number is needed, found the string \"four\""},
    {"svd.low_rank=", "--set 2: svd.low_rank: a number is needed, found the string \"\""},
    {"svd.low_rank.x=4", "--set 2: svd.low_rank: \"=\" is needed after it, found \".x=4\""},
    {"svd.low_rank[0]=4", "--set 2: svd.low_rank: cannot be indexed, give the whole value"},
    {"svd[0]=4", "--set 2: svd: \"=\" is needed after it, found \"[0]=4\""},
    {"svd=4", "--set 2: svd: an object is needed, found the number 4"},
    {"svd={\"kind\": \"hi\"}",
     "--set 2: svd.kind: one of high, low, uniform; found \"hi\"; did you mean \"high\"?"},
    {"svd.kind=1", "--set 2: svd.kind: one of high, low, uniform; found \"1\""},
    {"optim.lr=nan", "--set 2: optim.lr: a number is needed, found the string \"nan\""},
    {"optim.lr=1e999", "--set 2: optim.lr: too big for a number of 64 bits, found 1e999"},
    {"optim.betas=[4,2",
     "--set 2: optim.betas: value:1:5: a comma or ] is needed, near the end of the text"},
    {"optim.betas=4,2",
     "--set 2: optim.betas: a list of numbers is needed, found the string \"4,2\""},
    {"data.train[2].path=x",
     "--set 2: data.train: an index [N] below 2 is needed (so many there are)"},
    {"data.train[x].path=x",
     "--set 2: data.train: an index [N] below 2 is needed (so many there are)"},
    {"data.train[99999999999999999999].path=x",
     "--set 2: data.train: an index [N] below 2 is needed (so many there are)"},
    {"data.train[1]=4", "--set 2: data.train[1]: an object is needed, found the number 4"},
    {"data.train[1]x=4", "--set 2: data.train: \"=\" is needed after it, found \"x=4\""},
    {"data.train[1].weight=0", "--set 2: data.train[1].weight: must be above 0, found 0"},
    {"data.train[1].paht=0", "--set 2: data.train[1].paht: unknown key; did you mean \"path\"?"},
    {"data.train=[{}]", "--set 2: data.train[0].path: must be given (LLaVA JSON file)"},
    {"name=\xff", "--set 2: name: value:1:2: a byte that is not UTF-8 in a string, near '\\xff\"'"},
};

static void test_set_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_sets / sizeof bad_sets[0]; i++) {
        const char *sets[] = {"seed=2", bad_sets[i].set};
        struct config c;
        struct err e = {0};
        assert_false(load(&c, full, sets, 2, &e));
        assert_string_equal(e.msg, bad_sets[i].message);
        assert_null(c.name);
    }
}

static void test_sets(void **state)
{
    static const char *const sets[] = {
        "name=7",
        "svd.low_rank=8",
        "svd.low_rank=16",
        "svd={\"kind\": \"high\"}",
        "svd.ratio=null",
        "optim.betas=[0.5, 0.25]",
        "note=a=b",
        "tags=[\"[\", \"]\"]",
        "data.train[1].path=http://x",
        "data.train[1].image.crop=[7]",
        "data.train[0]={\"weight\": 2}",
        "steps=[\"svd\"]",
    };
    static const char *const replace[] = {"name=\"7\"", "note=null", "svd.kind=low",
                                          "data.train=[{\"path\": \"z\"}]"};
    const struct source *src;
    struct config c;
    struct err e = {0};

    (void)state;
    assert_true(load(&c, full, sets, sizeof sets / sizeof sets[0], &e));
    assert_string_equal(c.name, "7");
    assert_int_equal(c.svd.low_rank, 16);
    assert_int_equal(c.svd.kind, KIND_HIGH);
    assert_false(c.svd.has_ratio);
    assert_true(c.optim.betas.v[1] == 0.25);
    assert_string_equal(c.note, "a=b");
    assert_string_equal(c.tags.v[0], "[");
    src = c.data.train.v;
    assert_string_equal(src[0].path, "p"); /* fields not named keep their values */
    assert_true(src[0].weight == 2);
    assert_string_equal(src[1].path, "http://x");
    assert_int_equal(src[1].crop.v[0], 7);
    assert_int_equal(c.steps.n, 1);
    schema_free(&schema, &c);

    /* no file: an override gives the required value */
    assert_true(schema_load(&schema, &c, NULL, replace, 4, &e));
    assert_string_equal(c.name, "7");
    assert_null(c.note);
    assert_int_equal(c.data.train.n, 1);
    schema_free(&schema, &c);
    assert_false(schema_load(&schema, &c, NULL, NULL, 0, &e));
    assert_string_equal(e.msg, "config: name: must be given (of the experiment)");
}

static const char dumped[] = "{\n"
                             "  \"name\": \"a\\u000a\\\"\xc3\xa9\\\\ // b\",\n"
                             "  \"verbose\": true,\n"
                             "  \"seed\": 9007199254740993,\n"
                             "  \"svd\": {\n"
                             "    \"low_rank\": 4,\n"
                             "    \"kind\": \"low\",\n"
                             "    \"ratio\": 0.1\n"
                             "  },\n"
                             "  \"optim\": {\n"
                             "    \"lr\": 3e-05,\n"
                             "    \"betas\": [0, 0.999],\n"
                             "    \"warmup\": [3, 4]\n"
                             "  },\n"
                             "  \"note\": \"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\",\n"
                             "  \"steps\": [\"svd\", \"rank\"],\n"
                             "  \"tags\": [\"x\", \"\"],\n"
                             "  \"data\": {\n"
                             "    \"train\": [\n"
                             "      {\n"
                             "        \"path\": \"p\",\n"
                             "        \"weight\": 1,\n"
                             "        \"image\": {\n"
                             "          \"crop\": []\n"
                             "        }\n"
                             "      },\n"
                             "      {\n"
                             "        \"path\": \"q\",\n"
                             "        \"weight\": 0.3333333333333333,\n"
                             "        \"image\": {\n"
                             "          \"crop\": [1, 2]\n"
                             "        }\n"
                             "      }\n"
                             "    ]\n"
                             "  }\n"
                             "}\n";

static void test_dump(void **state)
{
    struct config c, back;
    struct err e = {0};
    char *text, *diff;

    (void)state;
    assert_true(load(&c, full, NULL, 0, &e));
    text = schema_dump(&schema, &c, &e);
    assert_string_equal(text, dumped);
    assert_true(load(&back, text, NULL, 0, &e));
    diff = schema_dump_diff(&schema, &c, &back, false, &e);
    assert_string_equal(diff, "");
    assert_true(back.optim.lr == c.optim.lr && back.seed == c.seed);
    free(text);
    free(diff);
    schema_free(&schema, &c);
    schema_free(&schema, &back);
}

/* Random doubles of all magnitudes and extreme integers survive the dump to the last bit. */
static void test_dump_bits(void **state)
{
    static const char base[] = "{\"name\": \"n\"}";
    struct config c, back;
    struct err e = {0};
    struct rng r;

    (void)state;
    print_message("seed 31\n");
    rng_seed(&r, 31, 1);
    for (int round = 0; round < 300; round++) {
        uint64_t bits = rng_u64(&r);
        char *text;
        assert_true(load(&c, base, NULL, 0, &e));
        c.seed = round == 0 ? INT64_MIN : round == 1 ? INT64_MAX : (int64_t)rng_u64(&r);
        bits |= (uint64_t)1 << 63;    /* negative: below the row's maximum */
        bits &= ~((uint64_t)1 << 52); /* never infinite */
        memcpy(&c.svd.ratio, &bits, sizeof bits);
        c.svd.has_ratio = true;
        text = schema_dump(&schema, &c, &e);
        assert_non_null(text);
        if (!load(&back, text, NULL, 0, &e)) fail_msg("%s", e.msg);
        assert_true(back.seed == c.seed);
        assert_memory_equal(&back.svd.ratio, &bits, sizeof bits);
        free(text);
        schema_free(&schema, &c);
        schema_free(&schema, &back);
    }
}

static void test_diff(void **state)
{
    static const char long_name[] =
        "name=012345678901234567890123456789012345678901234567890123456789";
    static const char *const sets[] = {"svd.low_rank=5",         "verbose=false",
                                       "svd.ratio=null",         "data.train[1].path=r",
                                       "data.train[0].weight=3", long_name};
    static const char *const fewer[] = {"data.train=[]", "note=x"};
    struct config a, b;
    struct err e = {0};
    char *diff;

    (void)state;
    assert_true(load(&a, full, NULL, 0, &e));
    assert_true(load(&b, full, sets, 6, &e));
    diff = schema_dump_diff(&schema, &a, &b, false, &e);
    assert_string_equal(diff, "name (was \"a\\u000a\\\"\xc3\xa9\\\\ // b\", now "
                              "\"0123456789012345678901234567890123456789012345678901234...), "
                              "verbose (was true, now false), svd.low_rank (was 4, now 5), "
                              "svd.ratio (was 0.1, now null), data.train[0].weight (was 1, now 3), "
                              "data.train[1].path (was \"q\", now \"r\")");
    free(diff);
    schema_free(&schema, &b);
    assert_true(load(&b, full, sets, 5, &e));
    diff = schema_dump_diff(&schema, &a, &b, true, &e);
    assert_string_equal(diff, "svd.low_rank (was 4, now 5), svd.ratio (was 0.1, now null), "
                              "data.train[1].path (was \"q\", now \"r\")");
    free(diff);
    schema_free(&schema, &b);
    assert_true(load(&b, full, fewer, 2, &e));
    diff = schema_dump_diff(&schema, &a, &b, true, &e);
    assert_string_equal(diff, "data.train (was 2 elements, now 0)");
    free(diff);
    schema_free(&schema, &a);
    schema_free(&schema, &b);
}

/* What may be another place in a resumed run is not free to come or go. */
static void test_diff_of_places(void **state)
{
    struct places {
        const char *dir;
    };
    static const struct schema_row place_rows[] = {{"dir", SCHEMA_STRING(struct places, dir),
                                                    .def = "null", .nullable = true,
                                                    .may_move = true, .help = "a directory"}};
    static const struct schema places = SCHEMA(struct places, place_rows);
    static const struct {
        const char *was, *now, *locked;
    } cases[] = {{"dir=a", "dir=b", ""},
                 {"dir=null", "dir=b", "dir (was null, now \"b\")"},
                 {"dir=a", "dir=null", "dir (was \"a\", now null)"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct places was, now;
        struct err e;
        char *diff;

        assert_true(schema_load(&places, &was, NULL, &cases[i].was, 1, &e) &&
                    schema_load(&places, &now, NULL, &cases[i].now, 1, &e));
        diff = schema_dump_diff(&places, &was, &now, true, &e);
        assert_string_equal(diff, cases[i].locked);
        free(diff);
        diff = schema_dump_diff(&places, &was, &now, false, &e);
        assert_true(diff && diff[0]);
        free(diff);
        schema_free(&places, &was);
        schema_free(&places, &now);
    }
}

static void test_markdown(void **state)
{
    static const char *const lines[] = {
        "| Key | Type | Default | Allowed | What it is |\n| --- | --- | --- | --- | --- |\n| "
        "`name` |",
        "\n| `name` | string | must be given |  | of the experiment |\n",
        "\n| `svd.low_rank` | whole number | `64` | 1..4096 | rank of the latent, in columns |\n",
        "\n| `svd.kind` | name | `\"uniform\"` | one of high, low, uniform | which pairs keep "
        "RoPE: a "
        "\\| b |\n",
        "\n| `svd.ratio` | number or null | `null` | below 1 | share of the energy |\n",
        "\n| `optim.betas` | list of numbers | `[0.9, 0.95]` | 2 elements, each at least 0 and "
        "below "
        "1 | decay of the moments |\n",
        "\n| `data.train` | list of objects | `[]` |  | where samples come from |\n| "
        "`data.train[].path` | string | must be given | at least 1 character | LLaVA JSON file |\n",
        "\n| `data.train[].image.crop` | list of whole numbers | `[]` | at most 4 elements, each "
        "at "
        "least 0 | box, in pixels |\n",
    };
    char *text = NULL;
    size_t len = 0;
    FILE *fp = open_memstream(&text, &len);

    (void)state;
    assert_non_null(fp);
    schema_markdown(&schema, fp);
    fclose(fp);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!strstr(text, lines[i])) fail_msg("not there: %s\nin: %s", lines[i], text);
    free(text);
}

static const struct schema_row row_seed = {"seed", SCHEMA_INT(struct config, seed), .def = "1",
                                           .help = "h"};

/* Tables with one fault each; schema_check reports them to their authors. */
static void test_bad_tables(void **state)
{
    const struct {
        struct schema_row row;
        const char *message;
    } cases[] = {
        {row_seed, "table: seed: is there twice"},
        {{"seed.x", SCHEMA_INT(struct config, seed), .def = "1", .help = "h"},
         "table: seed: is an option and a group"},
        {{"a", SCHEMA_INT(struct config, seed), .def = "1"},
         "table: a: help of one line is needed"},
        {{"a", SCHEMA_INT(struct config, seed), .nullable = true, .def = "1", .help = "h"},
         "table: a: null is allowed, but no flag takes it"},
        {{"a", SCHEMA_INT(struct config, seed), .has = 1, .def = "1", .help = "h"},
         "table: a: a flag for null, but null is not allowed"},
        {{"a", .type = SCHEMA_TYPE_ENUM, .def = "1", .help = "h"},
         "table: a: names are for enum rows, and needed there"},
        {{"a", .type = SCHEMA_TYPE_OBJECTS, .def = "[]", .help = "h"},
         "table: a: a sub-table is for lists of objects, and needed there"},
        {{"a", SCHEMA_INT(struct config, seed), .def = "0", .min = SCHEMA_FROM(1), .help = "h"},
         "default: a: must be at least 1, found 0"},
        {{"a", SCHEMA_INT(struct config, seed), .def = "x", .help = "h"},
         "default: a:1:1: a value is needed, near 'x'"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct schema_row two[] = {row_seed, cases[i].row};
        const struct schema bad = SCHEMA(struct config, two);
        struct err e = {0};
        assert_false(schema_check(&bad, &e));
        assert_string_equal(e.msg, cases[i].message);
    }
}

static void test_files(void **state)
{
    const char *tmp = getenv("TMPDIR");
    struct config c;
    struct err e = {0};
    char *dir, *path, *big, want[1024];

    (void)state;
    dir = mem_printf(&e, "%s/schemaXXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    path = file_join(dir, "a.json", &e);
    memset(&c, 0xff, sizeof c);
    assert_false(schema_load(&schema, &c, path, NULL, 0, &e));
    snprintf(want, sizeof want, "%s: No such file or directory", path);
    assert_string_equal(e.msg, want);
    assert_null(c.name);
    assert_true(file_write(path, full, sizeof full - 1, &e));
    assert_true(schema_load(&schema, &c, path, NULL, 0, &e));
    schema_free(&schema, &c);
    big = calloc(1, JSONC_CONFIG_BYTES + 1);
    assert_non_null(big);
    assert_true(file_write(path, big, JSONC_CONFIG_BYTES + 1, &e));
    assert_false(schema_load(&schema, &c, path, NULL, 0, &e));
    snprintf(want, sizeof want, "%s: 1048577 bytes, at most 1048576 are allowed", path);
    assert_string_equal(e.msg, want);
    free(big);
    unlink(path);
    rmdir(dir);
    free(path);
    free(dir);
}

/* `open`, then `n` times `element`, then `close`. */
static char *repeated(const char *open, const char *element, size_t n, const char *close)
{
    size_t size = strlen(open) + n * strlen(element) + strlen(close) + 1, at;
    char *text = malloc(size);

    assert_non_null(text);
    at = (size_t)snprintf(text, size, "%s", open);
    for (size_t i = 0; i < n; i++) {
        memcpy(text + at, element, strlen(element));
        at += strlen(element);
    }
    snprintf(text + at, size - at, "%s", close);
    return text;
}

static void test_limits(void **state)
{
    struct config c;
    struct err e = {0};
    char *text = repeated("{\"name\": \"n\", \"optim\": {\"warmup\": [1", ",1", 4095, "]}}");

    (void)state;
    assert_true(load(&c, text, NULL, 0, &e));
    assert_int_equal(c.optim.warmup.n, SCHEMA_LIST_LIMIT);
    schema_free(&schema, &c);
    free(text);
    text = repeated("{\"optim\": {\"warmup\": [1", ",1", 400000, "]}}");
    assert_false(load(&c, text, NULL, 0, &e));
    assert_string_equal(e.msg,
                        "c.json:1: optim.warmup: at most 4096 elements are allowed, found 400001");
    free(text);
    text = repeated("{\"", "k\\n\xc3\xa9", 100000, "\": 1}"); /* one key of half a megabyte */
    assert_false(load(&c, text, NULL, 0, &e));
    assert_null(strchr(e.msg, '\n'));
    assert_true(strlen(e.msg) < 400);
    free(text);
    text = repeated("{\"name\": 4, \"x\": ", "{\"x\":", 1000, "1}");
    assert_false(load(&c, text, NULL, 0, &e));
    assert_non_null(strstr(e.msg, "nested more than 64 levels deep"));
    free(text);
}

/* One mutation: a byte changed, a piece copied from elsewhere, or the end cut off. */
static void mutate(char *text, struct rng *r)
{
    static const char bytes[] = "{}[]\",:/*\\. \n-19eEtn\xc3";
    size_t len = strlen(text), at = rng_below(r, len), from = rng_below(r, len), n;

    switch (rng_below(r, 4)) {
    case 0:
        n = 1 + rng_below(r, 12);
        if (from + n < len && at + n < len) memmove(text + at, text + from, n);
        break;
    case 1:
        text[at] = rng_below(r, 40) ? text[at] : '\0';
        break;
    default:
        text[at] = bytes[rng_below(r, sizeof bytes - 1)];
    }
}

/* Mutations of a valid file and of valid overrides: loaded, or refused with a one-line message,
 * never a crash; what was loaded can be dumped and read back. */
static void test_fuzz(void **state)
{
    static const char *const valid_sets[] = {"data.train[1].path=http://x",
                                             "svd={\"kind\": \"high\", \"low_rank\": 7}",
                                             "optim.betas=[0.5, 0.25]", "seed=-12"};
    struct rng r;
    int loaded = 0;

    (void)state;
    print_message("seed 32\n");
    rng_seed(&r, 32, 1);
    for (int round = 0; round < 20000; round++) {
        char text[sizeof full], set[64];
        const char *sets[] = {set};
        struct config c, back;
        struct err e = {0};
        memcpy(text, full, sizeof text);
        snprintf(set, sizeof set, "%s", valid_sets[rng_below(&r, 4)]);
        for (uint64_t k = rng_below(&r, 3); k > 0 && text[0]; k--)
            mutate(text, &r);
        for (uint64_t k = rng_below(&r, 3); k > 0 && set[0]; k--)
            mutate(set, &r);
        if (load(&c, text, sets, 1, &e)) {
            char *dump = schema_dump(&schema, &c, &e), *diff;
            assert_non_null(dump);
            if (!load(&back, dump, NULL, 0, &e)) fail_msg("%s\n%s", e.msg, dump);
            diff = schema_dump_diff(&schema, &c, &back, false, &e);
            assert_string_equal(diff, "");
            free(diff);
            free(dump);
            schema_free(&schema, &c);
            schema_free(&schema, &back);
            loaded++;
        } else {
            assert_true(e.msg[0] != '\0');
            assert_null(strchr(e.msg, '\n'));
            assert_null(c.name);
        }
    }
    assert_true(loaded > 1000 && loaded < 19000); /* both outcomes were exercised */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),       cmocka_unit_test(test_messages),
        cmocka_unit_test(test_set_messages), cmocka_unit_test(test_sets),
        cmocka_unit_test(test_dump),         cmocka_unit_test(test_dump_bits),
        cmocka_unit_test(test_diff),         cmocka_unit_test(test_diff_of_places),
        cmocka_unit_test(test_markdown),     cmocka_unit_test(test_bad_tables),
        cmocka_unit_test(test_files),        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_fuzz),
    };

    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
