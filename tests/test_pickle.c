/* test_pickle.c - pickles of tensors by name: several spellings of the same content, hostile ones,
 * and one with each byte changed. Each is opened as part of a whole file of torch.save. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/torch_archive_files.h"

/* Spellings of one tensor that other versions and machines write. */
static void test_spellings(void **state)
{
    static const struct text good[] = {
        TEXT(OPEN GOOD "s."),
        TEXT(OPEN V2 "((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
                     "0X\6\0\0\0cuda:1M\6\0tQ"
                     "J\0\0\0\0" DIMS HOOKS "tRs."),
        TEXT("\x80\2}r\0\1\0\0X\1\0\0\0aq\1" GOOD "r\1\1\0\0sj\0\1\0\0"
             "b."),
        TEXT("\x80\2"
             "ccollections\nOrderedDict\n)R(U\1a" GOOD "u}X\1\0\0\0xNs"
             "b."),
        TEXT(OPEN "ctorch._utils\n_rebuild_parameter\n" GOOD "\x88"
                  "ccollections\nOrderedDict\n)R"
                  "\x87Rs."),
        TEXT(OPEN TENSOR(F32S("\x8a\1\6"), "\x8a\0" DIMS) "s."),
    };
    const char *path = tmpdir_path(state, "a.bin");

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct st_file f;
        struct err e = {0};
        put_pickle(path, good[i].p, good[i].n, &(struct archive_edit){0});
        if (!torch_weights_open(&f, path, &e)) fail_msg("%zu: %s", i, e.msg);
        check_ramp(&f, "a");
        st_close(&f);
    }
}

static const struct {
    const char *what;
    struct text pickle;
    const char *says;
} pickles[] = {
    /* refused by the pickle machine */
    {"empty", TEXT(""), "it ends within a value"},
    {"no end", TEXT("\x80\2}"), "it ends within a value"},
    {"more after the end", TEXT("\x80\2}.}"), "there is more after its end"},
    {"two values", TEXT("\x80\2}}."), "it ends with other than one value"},
    {"no value", TEXT("\x80\2."), "it takes a value that is not there"},
    {"a mark alone", TEXT("\x80\2(."), "it takes a value that is not there"},
    {"a tuple of too few", TEXT("\x80\2K\1\x86."), "it takes a value that is not there"},
    {"a tuple over a mark", TEXT("\x80\2K\1(K\1\x86."), "it takes a value that is not there"},
    {"a tuple without mark", TEXT("\x80\2K\1t."), "it has no mark"},
    {"items without mark", TEXT("\x80\2}K\1K\1u."), "it has no mark"},
    {"items of nothing", TEXT("\x80\2(K\1K\1u."), "items of nothing"},
    {"items of a number", TEXT("\x80\2K\1(K\1K\1u."), "items of something that has none"},
    {"items of a tuple", TEXT("\x80\2)K\1a."), "items of something that has none"},
    {"half an item", TEXT("\x80\2}(K\1u."), "items of something that has none"},
    {"a value of nothing", TEXT("\x80\2}K\1s."), "items of nothing"},
    {"attributes of nothing", TEXT("\x80\2}b."), "it takes a value that is not there"},
    {"a call of a text", TEXT("\x80\2X\0\0\0\0)R."), "it calls something that is not a function"},
    {"a call with a text",
     TEXT("\x80\2"
          "ctorch\nSize\nX\0\0\0\0R."),
     "it calls something that"},
    {"a call of itself", TEXT("\x80\2}q\0h\0R."), "it calls something that is not a function"},
    {"recall of nothing", TEXT("\x80\2h\0."), "it recalls what it has not remembered"},
    {"recall of a gap", TEXT("\x80\2}q\7h\6."), "it recalls what it has not remembered"},
    {"memory without end", TEXT("\x80\2}r\xff\xff\xff\xff."),
     "a number of its memory is too large"},
    {"a text without end",
     TEXT("\x80\2X\xff\xff\xff\x7f"
          "a."),
     "it ends within a value"},
    {"a long number",
     TEXT("\x80\2\x8a\xff"
          "aaaa."),
     "has a number of 255 bytes"},
    {"an unknown opcode", TEXT("\x80\2\xffu."), "the opcode 0xff"},
    {"a function without name",
     TEXT("\x80\2"
          "ctorch"),
     "the name of a function does not end"},
    {"a class without name",
     TEXT("\x80\2"
          "ctorch\nx"),
     "the name of a function does not end"},
    {"a function that acts",
     TEXT("\x80\2"
          "cposix\nsystem\nX\2\0\0\0ls\x85R."),
     "its pickle calls posix.system, which tensors do not need"},
    {"a function with a line break",
     TEXT("\x80\2"
          "cpo\x1bx\nsys\ttem\n)R."),
     "its pickle calls po\\x1bx.sys\\ttem"},
    /* refused by what builds tensors */
    {"a name twice", TEXT(OPEN GOOD "sX\1\0\0\0a" GOOD "s."), "tensor a: is there twice"},
    {"a name that is none", TEXT("\x80\2}K\1" GOOD "s."), "is not a tensor's name"},
    {"a name with a zero", TEXT("\x80\2}X\3\0\0\0a\0b" GOOD "s."), "is not a tensor's name"},
    {"a name with a line break", TEXT("\x80\2}X\3\0\0\0a\nb" GOOD "s."), "control characters"},
    {"a name of nothing", TEXT("\x80\2}X\0\0\0\0" GOOD "s."), "name is empty"},
    {"itself", TEXT("\x80\2}q\0X\1\0\0\0ah\0s."), "\"a\" is a dictionary"},
    {"a list of itself", TEXT("\x80\2}X\1\0\0\0a]q\0h\0as."), "\"a\" is not a tensor"},
    {"a parameter of itself", TEXT(OPEN "ctorch._utils\n_rebuild_parameter\n]q\0h\0a\x85Rs."),
     "\"a\" is not a tensor"},
    {"a parameter of nothing", TEXT(OPEN "ctorch._utils\n_rebuild_parameter\n)Rs."),
     "\"a\" is not a tensor"},
    {"a tensor of nothing", TEXT(OPEN V2 ")Rs."), "\"a\" is not a tensor of a supported dtype"},
    {"a storage of nothing", TEXT(OPEN V2 "()QK\0" DIMS HOOKS "tRs."),
     "is not a tensor of a supported dtype"},
    {"a storage that is a number", TEXT(OPEN V2 "(K\0QK\0" DIMS HOOKS "tRs."),
     "is not a tensor of a"},
    {"a storage of texts",
     TEXT(OPEN TENSOR(STORAGE("torch\nfloat32", "0", "K\6"), "K\0" DIMS) "s."),
     "is not a tensor of a supported dtype"},
    {"an untyped storage",
     TEXT(OPEN TENSOR(STORAGE("torch.storage\nUntypedStorage", "0", "K\6"), "K\0" DIMS) "s."),
     "is not a tensor of a supported dtype"},
    {"no offset", TEXT(OPEN TENSOR(F32S("K\6"), "N" DIMS) "s."),
     "is not a tensor of a supported dtype"},
    {"an offset below zero", TEXT(OPEN TENSOR(F32S("K\6"), "J\xff\xff\xff\xff" DIMS) "s."),
     "is not a tensor of a supported dtype"},
    {"a dimension below zero",
     TEXT(OPEN TENSOR(F32S("K\6"), "K\0J\xff\xff\xff\xffK\3\x86K\3K\1\x86") "s."),
     "is not a tensor of a supported dtype"},
    {"nine dimensions",
     TEXT(OPEN TENSOR(F32S("K\6"),
                      "K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1K\1K\1t") "s."),
     "is not a tensor of a supported dtype"},
    {"more strides than dimensions", TEXT(OPEN TENSOR(F32S("K\6"), "K\0K\6\x85K\3K\1\x86") "s."),
     "is not a tensor of a supported dtype"},
    {"a shape that overflows",
     TEXT(OPEN TENSOR(F32S("K\6"), "K\0\x8a\5\0\0\0\0\1\x8a\5\0\0\0\0\1\x86K\1K\1\x86") "s."),
     "is not a tensor of a supported dtype"},
    {"bytes that overflow",
     TEXT(OPEN TENSOR(F32S("K\6"), "K\0\x8a\x8\0\0\0\0\0\0\0\x40\x85K\1\x85") "s."),
     "does not fit its storage"},
    {"an offset that overflows",
     TEXT(OPEN TENSOR(F32S("K\6"), "\x8a\x8\xff\xff\xff\xff\xff\xff\xff\x7f" DIMS) "s."),
     "does not fit its storage"},
    {"an offset that is too large", TEXT(OPEN TENSOR(F32S("K\6"), "K\1" DIMS) "s."),
     "does not fit its storage"},
    {"a storage that is too small", TEXT(OPEN TENSOR(F32S("K\5"), "K\0" DIMS) "s."),
     "does not fit its storage"},
    {"a storage that says too much", TEXT(OPEN TENSOR(F32S("M\0\1"), "K\0K\7\x85K\1\x85") "s."),
     "member data/0 has 24 bytes, its tensor ends at byte 28"},
    {"a storage that is not there",
     TEXT(OPEN TENSOR(STORAGE("torch\nFloatStorage", "1", "K\6"), "K\0" DIMS) "s."),
     "has no member data/1"},
    {"a storage outside of the archive's names",
     TEXT(OPEN TENSOR(STORAGE("torch\nFloatStorage", "/", "K\6"), "K\0" DIMS) "s."),
     "has no member data//"},
};

static void test_pickles(void **state)
{
    const char *path = tmpdir_path(state, "a.bin");

    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        put_pickle(path, pickles[i].pickle.p, pickles[i].pickle.n, &(struct archive_edit){0});
        refused(path, pickles[i].what, pickles[i].says);
    }
}

/* A pickle of n times `piece` between `begin` and `end`. */
static void put_many(const char *path, struct text begin, struct text piece, size_t n,
                     struct text end)
{
    struct err e;
    const size_t all = begin.n + n * piece.n + end.n;
    char *text = mem_new(all, 1, "a pickle", &e), *at = text;

    assert_non_null(text);
    memcpy(at, begin.p, begin.n);
    at += begin.n;
    for (size_t i = 0; i < n; i++, at += piece.n)
        memcpy(at, piece.p, piece.n);
    memcpy(at, end.p, end.n);
    put_pickle(path, text, all, &(struct archive_edit){0});
    free(text);
}

/* Anything that could grow without bound or recurse without end. */
static void test_large(void **state)
{
    static const struct {
        const char *what;
        struct text begin, piece;
        size_t n;
        struct text end;
        const char *says;
    } rows[] = {
        {"values", TEXT("\x80\2"), TEXT("}"), 1100000, TEXT("."), "more than 1000000 values"},
        {"items", TEXT("\x80\2]q\0"), TEXT("h\0a"), 2100000, TEXT("."), "more than 2000000 items"},
        {"tuples in tuples", TEXT("\x80\2)"), TEXT("\x85"), 900000, TEXT("."),
         "holds no dictionary"},
        {"lists in lists, opened", TEXT("\x80\2"), TEXT("("), 900000, TEXT("."), "not there"},
        {"lists of the list before, twice", TEXT("\x80\2)q\0"), TEXT("h\0h\0\x86q\0"), 150000,
         TEXT("."), "ends with other"},
        {"a long name again and again",
         TEXT("\x80\2}(X\x28\0\0\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaq\1N"), TEXT("h\1N"),
         200000, TEXT("u."), "a tensor's name is there twice"},
    };
    const char *path = tmpdir_path(state, "a.bin");

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_many(path, rows[i].begin, rows[i].piece, rows[i].n, rows[i].end);
        refused(path, rows[i].what, rows[i].says);
    }
}

/* The same for the pickle alone, with the checksum corrected, so that the pickle
 * machine sees every byte. */
static void test_changed_pickle(void **state)
{
    char *path = memory_file();
    static const char flips[] = {1, 4, 0x20, (char)0x80, (char)0xff};
    static const float values[64];
    struct zip z;
    struct bytes member;
    struct err e;
    size_t n;
    int opened = 0;
    char *text = slurp("tests/data/weights/files/all.bin", &n);

    (void)state;
    assert_true(zip_open(&z, (struct bytes){(const uint8_t *)text, n}, &e));
    assert_true(zip_contents(&z, zip_find_end(&z, "/data.pkl"), &member, &e));
    for (size_t k = 0; k < member.n; k++) {
        struct test_member m[16] = {{"x/data.pkl", member.p, member.n}};
        char names[15][32], *at = text + (member.p - (const uint8_t *)text) + k;
        const char was = *at;
        for (int d = 0; d < 15; d++) {
            snprintf(names[d], sizeof names[d], "x/data/%d", d);
            m[d + 1] = (struct test_member){names[d], values, sizeof values};
        }
        *at ^= flips[k % sizeof flips];
        put_archive(path, m, 16, &(struct archive_edit){0});
        open_changed(path, &opened);
        *at = was;
    }
    zip_close(&z);
    free(text);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_spellings), tmpdir_test(test_pickles),
                                       tmpdir_test(test_large),
                                       cmocka_unit_test(test_changed_pickle)};

    return cmocka_run_group_tests_name("pickle", tests, NULL, NULL);
}
