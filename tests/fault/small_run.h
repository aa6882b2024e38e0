/* small_run.h - complete runs that take a fifth of a second, and what they leave. Include after
 * cmocka's headers, tmpdir.h, tiny_model.h and fault/inject.h. */
#ifndef TESTS_FAULT_SMALL_RUN_H
#define TESTS_FAULT_SMALL_RUN_H

#include "base/hash.h"

#include <dirent.h>
#include <limits.h>

/* Runs every step. All answers are "b", which a few steps teach, so that there is a score to
 * compare with and a curve. One sample has a broken picture and one no answer. */
static const char small_config[] =
    "{\"run\": {\"dir\": \"run\", \"threads\": 1, \"steps\": [%s\"rank\", \"stage1\", \"svd\", "
    "\"stage2\", \"evaluate\", \"report\"]},\n"
    " \"model\": {%s\"tokenizer\": \"tok\"},\n"
    " \"data\": {\"train\": [{\"path\": \"train.json\"}], \"max_length\": 128, \"max_bad\": 2,\n"
    "  \"eval\": [{\"path\": \"test.json\"}], \"cache\": \"cache\"},\n"
    " \"baseline\": {\"hidden_size\": 16, \"intermediate_size\": 16, \"layers\": 1, \"heads\": 2,\n"
    "  \"kv_heads\": 2, \"vision_hidden_size\": 16, \"vision_intermediate_size\": 16,\n"
    "  \"vision_layers\": 1, \"vision_heads\": 2, \"image_size\": 16, \"patch_size\": 8,\n"
    "  \"steps\": 8, \"batch_size\": 2, \"lr\": 1e-1},\n"
    " \"rank\": {\"rope_dim\": 4, \"samples\": 2}, \"svd\": {\"samples\": 2},\n"
    " \"stage1\": {\"steps\": 2, \"batch_size\": 1},\n"
    " \"stage2\": {\"steps\": 2, \"batch_size\": 1, \"eval_every\": 1},\n"
    " \"checkpoint\": {\"every\": 2, \"keep\": 1}, \"sweep\": {\"low_rank\": [2, 1]},\n"
    " \"evaluate\": {\"max_new_tokens\": 2, \"curve_samples\": 1%s}}\n";

static const char small_chat[] =
    "[{\"id\": \"1\", \"image\": \"pics/a.png\", \"conversations\": [{\"from\": \"human\", "
    "\"value\": \"<image>\\na\"}, {\"from\": \"gpt\", \"value\": \"b\"}]},\n"
    "{\"id\": \"2\", \"conversations\": [{\"from\": \"human\", \"value\": \"aa\"}, {\"from\": "
    "\"gpt\", \"value\": \"b\"}]},\n"
    "{\"id\": \"3\", \"image\": [\"pics/c.jpg\", \"pics/d.gif\", \"pics/e.webp\", "
    "\"pics/f.bmp\"],\n"
    " \"conversations\": [{\"from\": \"human\", \"value\": \"<image><image><image><image>\\nab\"}, "
    "{\"from\": \"gpt\", \"value\": \"b\"}]}%s]\n";
static const char small_bad[] =
    ",\n{\"id\": \"4\", \"image\": \"pics/bad.png\", \"conversations\": [{\"from\": \"human\", "
    "\"value\": \"<image>\\na\"}, {\"from\": \"gpt\", \"value\": \"b\"}]},\n"
    "{\"id\": \"5\", \"conversations\": [{\"from\": \"human\", \"value\": \"a\"}]}";
static const char small_text[] = "{\"text\": \"ab ab ab\"}\n{\"text\": \"ba ab\"}\n";

/* A token for every character of a prompt, and no merges. */
static inline void small_tokenizer(const char *path)
{
    static const char letters[] = "ABEGINRSTUabp:\n<>image/s.";
    FILE *fp = fopen(path, "w");
    int id = 5;

    assert_non_null(fp);
    fprintf(fp, "{\"version\":\"1.0\",\"added_tokens\":[");
    for (int i = 0; i < 4; i++)
        fprintf(fp,
                "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                "\"rstrip\":false,\"normalized\":false,\"special\":true}",
                i ? "," : "", i, (const char *[]){"<unk>", "<s>", "</s>", "<image>"}[i]);
    fprintf(fp, "],\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"
                "\"\\u2581\"},\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":{\"type\":"
                "\"Replace\",\"pattern\":{\"String\":\"\\u2581\"},\"content\":\" \"},"
                "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"vocab\":{"
                "\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"<image>\":3,\"\\u2581\":4");
    for (const char *c = letters; *c; c++)
        if (strchr(letters, *c) == c)
            fprintf(fp, ",\"%s%c\":%d", *c == '\n' ? "\\" : "", *c == '\n' ? 'n' : *c, id++);
    fprintf(fp, "},\"merges\":[]}}\n");
    assert_int_equal(fclose(fp), 0);
}

/* The kinds of run: with pictures, from scratch; a given language model on plain texts; and the
 * first one resumed from half-way. */
enum small_kind { SMALL_PICTURES, SMALL_TEXT, SMALL_HALF_WAY, SMALL_RUNS };
static const char *const small_names[SMALL_RUNS] = {"pictures", "text", "half-way"};

/* A directory entry below `run` or `cache`, and a checksum of its reproducible part. */
struct small_file {
    char name[200], sum[65];
};
struct small_tree {
    struct small_file *files;
    size_t n, cap;
};

struct small_run {
    enum small_kind kind;
    char dir[600], err[640], program[PATH_MAX], preload[PATH_MAX];
    struct small_tree done;     /* what an undisturbed run leaves */
    struct small_tree *checked; /* states from which resuming has been checked */
    size_t n_checked, cap_checked;
};

static inline void small_shell(const struct small_run *s, const char *command)
{
    char line[2000];

    snprintf(line, sizeof line, "cd '%s' && %s", s->dir, command);
    if (system(line) != 0) fail_msg("%s", line);
}

static inline char *small_path(const struct small_run *s, const char *name)
{
    static char path[900];

    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    return path;
}

/* One of every format, and a truncated one. */
static inline void small_pictures(const struct small_run *s)
{
    static const char *const files[][2] = {{"gray1.png", "a.png"}, {"gray.jpg", "c.jpg"},
                                           {"clear.gif", "d.gif"}, {"lossy.webp", "e.webp"},
                                           {"one_8.bmp", "f.bmp"}, {"gray2.png", "bad.png"}};
    char from[200], to[200];

    assert_int_equal(mkdir(small_path(s, "pics"), 0777), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t size;
        snprintf(from, sizeof from, "tests/data/image/%s", files[i][0]);
        snprintf(to, sizeof to, "pics/%s", files[i][1]);
        char *data = slurp(from, &size);
        spill(small_path(s, to), data, strstr(to, "bad") ? size / 2 : size);
        free(data);
    }
}

static inline void small_files(const struct small_run *s)
{
    bool text = s->kind == SMALL_TEXT;
    char json[4000];

    assert_int_equal(mkdir(s->dir, 0777) | mkdir(small_path(s, "tok"), 0777), 0);
    snprintf(json, sizeof json, small_config, text ? "" : "\"baseline\", ",
             text ? "\"path\": \"llama\", " : "", text ? ", \"score\": \"tokens\"" : "");
    spill(small_path(s, "c.json"), json, strlen(json));
    small_pictures(s);
    snprintf(json, sizeof json, small_chat, small_bad);
    if (text) snprintf(json, sizeof json, "%s", small_text);
    spill(small_path(s, "train.json"), json, strlen(json));
    snprintf(json, sizeof json, small_chat, "");
    if (text) snprintf(json, sizeof json, "%s", small_text);
    spill(small_path(s, "test.json"), json, strlen(json));
    small_tokenizer(small_path(s, "tok/tokenizer.json"));
    if (text) {
        struct err e = {0};
        struct model m;
        tiny_text_model(&m, "llama", 4, 1);
        must(model_save(&m, small_path(s, "llama"), DT_F32, false, &e), &e);
        model_close(&m);
    }
}

/* ---- what a run leaves ---- */

static inline bool small_ends(const char *name, const char *end)
{
    return strlen(name) >= strlen(end) && strcmp(name + strlen(name) - strlen(end), end) == 0;
}

/* These contain times, so that only their names are reproducible. */
static inline bool small_is_free(const char *name)
{
    return strstr(name, "/checkpoints/step-") || small_ends(name, "metrics.h5") ||
           small_ends(name, "report.md") || small_ends(name, "train.log");
}

/* metrics.jsonl without the times. */
static inline void small_metrics_sum(char *text, char hex[65])
{
    struct sha256 sum;

    sha256_init(&sum);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (!strstr(line, "\"event\":\"end\"")) sha256_add(&sum, line, strlen(line) + 1);
    sha256_hex(&sum, hex);
}

/* outputs.json without the times: a line is "NAME": "SUM SIZE TIME". */
static inline void small_outputs_sum(char *data, char hex[65])
{
    struct sha256 sum;

    sha256_init(&sum);
    for (char *line, *rest = data; (line = strsep(&rest, "\n"));) {
        char *time = strrchr(line, ' ');
        sha256_add(&sum, line, time ? (size_t)(time - line) : strlen(line));
    }
    sha256_hex(&sum, hex);
}

static inline void small_sum(const char *path, const char *name, char hex[65])
{
    struct sha256 sum;
    size_t size;
    char *data;

    hex[0] = '\0';
    if (small_is_free(name)) return;
    data = slurp(path, &size);
    if (small_ends(name, "metrics.jsonl")) {
        small_metrics_sum(data, hex);
    } else if (small_ends(name, "outputs.json")) {
        small_outputs_sum(data, hex);
    } else {
        sha256_init(&sum);
        sha256_add(&sum, data, size);
        sha256_hex(&sum, hex);
    }
    free(data);
}

static inline int small_by_name(const void *a, const void *b)
{
    return strcmp(((const struct small_file *)a)->name, ((const struct small_file *)b)->name);
}

/* Adds everything below dir/name. There are as many TensorBoard files as there were starts. */
static inline void small_walk(const struct small_run *s, const char *name, struct small_tree *t)
{
    DIR *d = opendir(small_path(s, name));
    struct dirent *entry;
    struct err e = {0};

    while (d && (entry = readdir(d))) {
        struct small_file f = {0};
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        assert_in_range(snprintf(f.name, sizeof f.name, "%s/%s", name, entry->d_name), 1,
                        sizeof f.name - 1);
        if (strcmp(f.name, "run/tensorboard") == 0) continue;
        assert_int_equal(stat(small_path(s, f.name), &st), 0);
        if (!S_ISDIR(st.st_mode)) small_sum(small_path(s, f.name), f.name, f.sum);
        must(mem_grow(&t->files, &t->cap, t->n + 1, sizeof f, &e), &e);
        t->files[t->n++] = f;
        if (S_ISDIR(st.st_mode)) small_walk(s, f.name, t);
    }
    if (d) closedir(d);
}

static inline struct small_tree small_tree(const struct small_run *s)
{
    struct small_tree t = {0};

    small_walk(s, "run", &t);
    small_walk(s, "cache", &t);
    if (t.n) qsort(t.files, t.n, sizeof *t.files, small_by_name);
    return t;
}

/* The first file that differs between two trees, or NULL. An extra checkpoint that could not be
 * deleted is harmless; so is a scratch file. */
static inline const char *small_differs(const struct small_tree *t, const struct small_tree *want)
{
    size_t k = 0;

    for (size_t i = 0; i < t->n; i++) {
        const char *name = t->files[i].name;
        if (k < want->n && strcmp(name, want->files[k].name) == 0) {
            if (strcmp(t->files[i].sum, want->files[k++].sum) != 0) return name;
        } else if (!strstr(name, "/checkpoints/step-") && !strstr(name, "/scratch-")) {
            return name;
        }
    }
    return k < want->n ? want->files[k].name : NULL;
}

static inline bool small_same(const struct small_tree *a, const struct small_tree *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->files, b->files, a->n * sizeof *a->files) == 0);
}

/* ---- running ---- */

/* With or without the argument --resume. */
static inline int small_start(const struct small_run *s, struct fault *f, bool resume)
{
    char *const argv[] = {(char *)(uintptr_t)s->program, "--config", "c.json",
                          resume ? "--resume" : NULL, NULL};

    return fault_run(f, s->dir, s->err, argv);
}

static inline void small_reset(const struct small_run *s)
{
    nftw(small_path(s, "run"), tmpdir_remove_one, 8, FTW_DEPTH | FTW_PHYS);
    nftw(small_path(s, "cache"), tmpdir_remove_one, 8, FTW_DEPTH | FTW_PHYS);
    if (s->kind == SMALL_HALF_WAY) small_shell(s, "cp -a half/. .");
}

static inline void small_free(struct small_run *s)
{
    free(s->done.files);
    for (size_t i = 0; i < s->n_checked; i++)
        free(s->checked[i].files);
    free(s->checked);
}

/* Makes the files in PARENT/name, and the undisturbed run. */
static inline void small_make(struct small_run *s, enum small_kind kind, const char *parent,
                              const char *name)
{
    struct fault none = {.kind = fault_kind("rename"), .error = EIO};
    const char *build = getenv("BUILD") ? getenv("BUILD") : "build";
    char program[600];

    memset(s, 0, sizeof *s);
    s->kind = kind;
    snprintf(s->dir, sizeof s->dir, "%s/%s", parent, name);
    snprintf(s->err, sizeof s->err, "%s/%s.err", parent, name);
    snprintf(program, sizeof program, "%s/mha2mla-train", build);
    assert_non_null(realpath(program, s->program));
    snprintf(program, sizeof program, "%s/tests/fault_malloc.so", build);
    assert_non_null(realpath(program, s->preload));
    small_files(s);
    if (kind == SMALL_HALF_WAY) { /* stopped in the middle of the last training but one */
        struct fault stop = {.kind = none.kind, .n = 1, .only = "rank2/stage2/checkpoints/step"};
        assert_int_equal(small_start(s, &stop, false), 128 + SIGKILL);
        small_shell(s, "mkdir half && mv run cache half");
        small_reset(s);
    }
    if (small_start(s, &none, true) != 0) fail_msg("%s", slurp(s->err, NULL));
    s->done = small_tree(s);
}

#endif
