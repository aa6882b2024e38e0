/* test_rooms.c - the arrows of README.md, read from the sources: no file includes upwards, and no
 * family of models is named outside of its room. Runs in the project's root, as all tests do. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <glob.h>
#include <stdbool.h>

#include "tests/tmpdir.h"

/* A room, and what its files may include beside the files of their own directory: rooms with all
 * that is in them, with a slash at the end without the rooms in them, or single headers. */
enum { ARROWS = 10 };
static const struct room {
    const char *name, *may[ARROWS];
} rooms[] = {
    {"base", {NULL}},
    {"base/hdf5", {"base/"}},
    {"base/json", {"base/"}},
    {"base/schema", {"base/", "base/json"}},
    {"data", {"base", "data/metric", "data/picture", "data/tokenizer"}},
    {"data/metric", {"base", "data/tokenizer/unicode.h", "data/tokenizer/utf8.h"}},
    {"data/picture", {"base"}},
    {"data/tokenizer", {"base"}},
    {"autograd", {"base"}},
    {"optim", {"base", "autograd"}},
    {"cluster", {"base", "autograd", "optim"}},
    {"model",
     {"base", "autograd", "model", "data/batch.h", "data/sample.h", "data/picture/processor.h"}},
    {"model/config", {"base", "autograd", "model"}},
    {"model/family",
     {"base", "autograd", "model", "data/batch.h", "data/sample.h", "data/picture/processor.h"}},
    {"model/files", {"base", "autograd"}},
    {"convert", {"base", "autograd", "model"}},
    {"train", {"base", "data", "autograd", "optim", "cluster", "model", "convert", "train"}},
    {"train/forecast",
     {"base", "data", "autograd", "optim", "cluster", "model", "convert", "train"}},
    {"train/record", {"base", "cluster"}},
    {"train/report", {"base", "data", "model", "train"}},
    {"train/score", {"base", "data", "cluster", "model", "train"}},
    {"train/submit", {"base", "data", "model", "train"}},
    {"datasets", {"base", "data"}},
    {"talk", {"base", "data", "autograd", "model", "train"}},
    {"chat", {"base", "data", "autograd", "model", "train", "talk"}},
    {"serve", {"base", "data", "autograd", "model", "train", "talk"}},
};
enum { ROOMS = sizeof rooms / sizeof *rooms };

static struct {
    int checked, bad;
} found;

static void fault(const char *file, int line, const char *what, const char *name)
{
    print_error("%s:%d: %s %s\n", file, line, what, name);
    found.bad++;
}

static bool under(const char *path, const char *room)
{
    size_t n = strlen(room);

    return strncmp(path, room, n) == 0 && path[n] == '/';
}

static bool may_include(const struct room *r, const char *header)
{
    size_t dir = (size_t)(strrchr(header, '/') - header);

    if (dir == strlen(r->name) && strncmp(header, r->name, dir) == 0) return true;
    for (int i = 0; i < ARROWS && r->may[i]; i++) {
        size_t n = strlen(r->may[i]);
        bool only = r->may[i][n - 1] == '/';
        if (only && dir == n - 1 && strncmp(header, r->may[i], n) == 0) return true;
        if (!only && (under(header, r->may[i]) || strcmp(header, r->may[i]) == 0)) return true;
    }
    return false;
}

static void check_includes(const struct room *r, const char *file, const char *text)
{
    static const char include[] = "#include \"";
    int line = 1;

    for (const char *at = text; *at; at++) {
        char header[200];
        if (*at == '\n') line++;
        if (strncmp(at, include, sizeof include - 1) != 0) continue;
        assert_int_equal(sscanf(at + sizeof include - 1, "%199[^\"]", header), 1);
        found.checked++;
        if (!strchr(header, '/') || !may_include(r, header))
            fault(file, line, "may not include", header);
    }
}

/* ---- families ---- */

/* What the families are called, in small letters; CLIP is a tower only in capital ones. */
static const char *const family_words[] = {"llava", "qwen", "mistral", "siglip", "clip_vision"};
/* What has a family's name in it and is no family. */
static const char *const other_phrases[] = {
    "LLaVA JSON",               /* a format of data */
    "LLaVA's own code",         /* whose checkpoints are refused, */
    "llava-hf/llava-1.5-7b-hf", /* with an example of what is not */
};
/* The files that may name one: those that begin with `path`. */
static struct {
    const char *path, *because;
    int named;
} allowed[] = {
    {"model/family/", "the families", 0},
    {"data/picture/processor", "their image processors, by the classes of their files", 0},
    {"data/template.", "templates have the names under which they are published", 0},
    {"data/tokenizer/form.c", "a tokenizer's class follows from model_type; data has no families",
     0},
    {"model/config/hfconfig_text.c", "the decoders' defaults, one column each", 0},
    {"train/config.c", "help says of which models a setting is", 0},
    {"datasets/words.c", "writes the templates of data/template.c into small tokenizers", 0},
};
enum { ALLOWED = sizeof allowed / sizeof *allowed };

/* Replaces comments by blanks. */
static void blank_comments(char *text)
{
    char quote = 0;

    for (char *at = text; *at; at++) {
        if (quote && *at == '\\' && at[1]) {
            at++;
        } else if (quote || *at == '"' || *at == '\'') {
            quote = !quote ? *at : *at == quote ? 0 : quote;
        } else if (at[0] == '/' && at[1] == '*') {
            char *end = strstr(at, "*/");
            assert_non_null(end);
            for (; at < end + 2; at++)
                if (*at != '\n') *at = ' ';
            at--;
        }
    }
}

static void blank_phrases(char *text)
{
    for (size_t i = 0; i < sizeof other_phrases / sizeof *other_phrases; i++)
        for (char *at = text; (at = strstr(at, other_phrases[i]));)
            memset(at, ' ', strlen(other_phrases[i]));
}

static const char *family_at(const char *at)
{
    if (strncmp(at, "CLIP", 4) == 0) return "CLIP";
    for (size_t i = 0; i < sizeof family_words / sizeof *family_words; i++)
        if (strncasecmp(at, family_words[i], strlen(family_words[i])) == 0) return family_words[i];
    return NULL;
}

static void check_families(const char *file, char *text)
{
    int line = 1, may = -1;

    for (int i = 0; i < ALLOWED; i++)
        if (strncmp(file, allowed[i].path, strlen(allowed[i].path)) == 0) may = i;
    blank_comments(text);
    blank_phrases(text);
    for (const char *at = text; *at; at++) {
        const char *family = family_at(at);
        if (*at == '\n') line++;
        if (!family) continue;
        if (may < 0) fault(file, line, "names the family", family);
        if (may >= 0) allowed[may].named++;
    }
}

static void each_source(void (*look)(const struct room *r, const char *file, char *text))
{
    for (int i = 0; i < ROOMS; i++) {
        char pattern[100];
        glob_t files = {0};
        snprintf(pattern, sizeof pattern, "%s/*.[ch]", rooms[i].name);
        assert_int_equal(glob(pattern, 0, NULL, &files), 0);
        for (size_t k = 0; k < files.gl_pathc; k++) {
            char *text = slurp(files.gl_pathv[k], NULL);
            look(&rooms[i], files.gl_pathv[k], text);
            free(text);
        }
        globfree(&files);
    }
}

static void look_includes(const struct room *r, const char *file, char *text)
{
    check_includes(r, file, text);
}

static void look_families(const struct room *r, const char *file, char *text)
{
    (void)r;
    found.checked++;
    check_families(file, text);
}

static void test_includes(void **state)
{
    (void)state;
    memset(&found, 0, sizeof found);
    each_source(look_includes);
    if (found.bad) fail_msg("%d includes go upwards", found.bad);
    assert_true(found.checked > 500);
}

static void test_families(void **state)
{
    (void)state;
    memset(&found, 0, sizeof found);
    each_source(look_families);
    if (found.bad) fail_msg("%d names of families outside of model/family", found.bad);
    assert_true(found.checked > 200);
    for (int i = 0; i < ALLOWED; i++)
        if (!allowed[i].named) fail_msg("%s names no family any longer", allowed[i].path);
}

/* Every directory with sources is a room of the table. */
static void test_all_rooms(void **state)
{
    static const char *const patterns[] = {"*/*.c", "*/*/*.c"};

    (void)state;
    for (int p = 0; p < 2; p++) {
        glob_t files = {0};
        assert_int_equal(glob(patterns[p], 0, NULL, &files), 0);
        for (size_t k = 0; k < files.gl_pathc; k++) {
            const char *file = files.gl_pathv[k];
            bool known = under(file, "tests") || under(file, "bench") || strstr(file, "build");
            for (int i = 0; i < ROOMS && !known; i++)
                known = (size_t)(strrchr(file, '/') - file) == strlen(rooms[i].name) &&
                        under(file, rooms[i].name);
            if (!known) fail_msg("%s: its room is not in the table", file);
        }
        globfree(&files);
    }
}

/* What the checks must see. */
static void test_the_checks(void **state)
{
    char text[] = "int a; /* llava */ char q = '\"', *s = \"/* qwen */\"; // \n\"LLaVA JSON\"";
    const struct room *data = NULL;

    (void)state;
    for (int i = 0; i < ROOMS; i++)
        if (strcmp(rooms[i].name, "data") == 0) data = &rooms[i];
    assert_non_null(data);
    assert_true(may_include(data, "data/batch.h") && may_include(data, "base/json/jsonc.h"));
    assert_false(may_include(data, "model/model.h") || may_include(data, "database/x.h"));
    assert_false(may_include(&rooms[0], "base/json/jsonc.h"));
    memset(&found, 0, sizeof found);
    print_message("# two faults must be found:\n");
    check_families("train/x.c", text);
    check_includes(data, "data/x.c", "\n#include \"train/run.h\"\n#include \"data/batch.h\"\n");
    assert_int_equal(found.bad, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_includes), cmocka_unit_test(test_families),
        cmocka_unit_test(test_all_rooms), cmocka_unit_test(test_the_checks)};

    return cmocka_run_group_tests_name("rooms", tests, NULL, NULL);
}
