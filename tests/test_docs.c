/* test_docs.c - the pages keep what they promise: docs/settings.md is what the program prints,
 * every link leads to a file, every file of ours that a page names is there, and so is every
 * section of a page that a comment cites. Runs in the project's root, as all tests do. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fnmatch.h>
#include <ftw.h>
#include <glob.h>
#include <libgen.h>
#include <stdbool.h>

#include "tests/tmpdir.h"

/* What a link or a path is made of. */
static const char path_letters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.*/-";

enum { PAGES = 64, IGNORED = 64 };
static struct {
    char *pages[PAGES];     /* Markdown pages, then configs, whose comments say how to run them */
    int n_pages, markdown;  /* markdown: of the pages, the first so many */
    char *ignored[IGNORED]; /* what .gitignore leaves out: files that a command makes */
    int n_ignored;
    int bad, checked;
} docs;

static bool matches(const char *pattern)
{
    glob_t found = {0};
    int rc = glob(pattern, 0, NULL, &found);

    globfree(&found);
    return rc == 0;
}

static void add_pages(const char *pattern)
{
    glob_t found = {0};

    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        assert_true(docs.n_pages < PAGES);
        docs.pages[docs.n_pages++] = strdup(found.gl_pathv[i]);
    }
    globfree(&found);
}

static int open_docs(void **state)
{
    char *text = slurp(".gitignore", NULL);

    (void)state;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        size_t n = strlen(line);
        if (*line != '/') continue; /* a kind of file, not a place */
        if (line[n - 1] == '/') line[n - 1] = '\0';
        assert_true(docs.n_ignored < IGNORED);
        docs.ignored[docs.n_ignored++] = strdup(line + 1);
    }
    free(text);
    add_pages("*.md");
    add_pages("docs/*.md");
    add_pages("bench/*.md");
    docs.markdown = docs.n_pages;
    add_pages("configs/*.json");
    return 0;
}

static int close_docs(void **state)
{
    (void)state;
    for (int i = 0; i < docs.n_pages; i++)
        free(docs.pages[i]);
    for (int i = 0; i < docs.n_ignored; i++)
        free(docs.ignored[i]);
    return 0;
}

static void begin_check(void)
{
    docs.bad = docs.checked = 0;
}

/* All faults are printed before a test fails. A check that found nothing to look at is one too. */
static void end_check(int least)
{
    if (docs.bad) fail_msg("%d faults", docs.bad);
    assert_true(docs.checked >= least);
}

static void fault(const char *page, const char *what, const char *name)
{
    print_error("%s: %s: %s\n", page, name, what);
    docs.bad++;
}

static void test_settings(void **state)
{
    const char *build = getenv("BUILD") ? getenv("BUILD") : "build";
    char *page = slurp("docs/settings.md", NULL), *table = strstr(page, "\n| Key "), command[1200];
    FILE *fp;
    static char said[1 << 16];

    (void)state;
    snprintf(command, sizeof command, "%s/mha2mla-train --help-config", build);
    fp = popen(command, "r");
    assert_non_null(fp);
    said[fread(said, 1, sizeof said - 1, fp)] = '\0';
    assert_int_equal(pclose(fp), 0);
    if (!table || strcmp(table + 1, said) != 0)
        fail_msg("docs/settings.md is not what the program prints: run `make docs`");
    free(page);
}

/* ---- links ---- */

static void check_link(const char *page, const char *target)
{
    char from[256], path[1024];

    if (strstr(target, "://")) return;
    snprintf(from, sizeof from, "%s", page);
    snprintf(path, sizeof path, "%s/%s", dirname(from), target);
    docs.checked++;
    if (access(path, F_OK) != 0) fault(page, "the link leads nowhere", target);
}

static void test_links(void **state)
{
    (void)state;
    begin_check();
    for (int i = 0; i < docs.markdown; i++) {
        char *text = slurp(docs.pages[i], NULL);
        for (char *at = text, *end; (at = strstr(at, "](")); at = end + 1) {
            end = strchr(at, ')');
            if (!end) fail_msg("%s: a link without an end", docs.pages[i]);
            *end = '\0';
            check_link(docs.pages[i], at + 2);
        }
        free(text);
    }
    end_check(20);
}

/* ---- named files ---- */

/* Whether the path, or a directory that it lies in, is one that git is to ignore. */
static bool is_made(const char *path)
{
    char part[1024];

    snprintf(part, sizeof part, "%s", path);
    for (char *slash; *part; *(slash ? slash : part) = '\0') {
        for (int i = 0; i < docs.n_ignored; i++)
            if (fnmatch(docs.ignored[i], part, FNM_PATHNAME) == 0) return true;
        slash = strrchr(part, '/');
    }
    return false;
}

/* A word is a path of ours where it begins with a directory that is here. */
static void check_word(const char *page, char *word)
{
    size_t n = strlen(word);
    char *slash = strchr(word, '/');
    struct stat st;

    while (n && strchr("./-", word[n - 1])) /* ends a sentence, or says that it is a directory */
        word[--n] = '\0';
    if (!slash || slash == word || is_made(word)) return;
    *slash = '\0';
    bool ours = *word != '.' && stat(word, &st) == 0 && S_ISDIR(st.st_mode);
    *slash = '/';
    if (!ours) return;
    docs.checked++;
    if (!matches(word)) fault(page, "is not there", word);
}

static void test_named_files(void **state)
{
    (void)state;
    begin_check();
    for (int i = 0; i < docs.n_pages; i++) {
        char *text = slurp(docs.pages[i], NULL), word[1024];
        for (const char *at = text; *at;) {
            size_t n = strspn(at, path_letters);
            if (n > 0 && n < sizeof word) {
                snprintf(word, sizeof word, "%.*s", (int)n, at);
                check_word(docs.pages[i], word);
            }
            at += n ? n : 1;
        }
        free(text);
    }
    end_check(100);
}

/* ---- pages that sources cite ---- */

/* At "docs/PAGE.md" in a source; behind it may stand ", section N", also on the comment's next
 * line. */
static void check_citation(const char *source, const char *at)
{
    char page[256], heading[32], *text;
    int section;

    snprintf(page, sizeof page, "%.*s", (int)strspn(at, path_letters), at);
    while (*page && page[strlen(page) - 1] == '.')
        page[strlen(page) - 1] = '\0';
    docs.checked++;
    if (access(page, F_OK) != 0) {
        fault(source, "is not there", page);
        return;
    }
    at += strlen(page);
    if (*at == ',') at++;
    at += strspn(at, " \n*");
    if (sscanf(at, "section %d", &section) != 1) return;
    text = slurp(page, NULL);
    snprintf(heading, sizeof heading, "\n## %d. ", section);
    if (!strstr(text, heading)) fault(source, "has no such section", at);
    free(text);
}

static int check_source(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    const char *dot = strrchr(path, '.');
    char *text;

    (void)st;
    if (type == FTW_D && ftw->level > 0 && is_made(path + 2)) return FTW_SKIP_SUBTREE;
    if (type != FTW_F || !dot || (strcmp(dot, ".c") != 0 && strcmp(dot, ".h") != 0)) return 0;
    if (strcmp(path, "./tests/test_docs.c") == 0) return 0;
    text = slurp(path, NULL);
    for (const char *at = text; (at = strstr(at, "docs/")); at++)
        check_citation(path, at);
    free(text);
    return 0;
}

static void test_citations(void **state)
{
    (void)state;
    begin_check();
    assert_int_equal(nftw(".", check_source, 16, FTW_PHYS | FTW_ACTIONRETVAL), 0);
    end_check(5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_named_files),
        cmocka_unit_test(test_citations),
    };

    return cmocka_run_group_tests_name("docs", tests, open_docs, close_docs);
}
