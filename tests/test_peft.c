/* test_peft.c - which tensors each named set trains, by their names in the file, in each state of
 * attention: exactly those of the published table. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tiny_convert.h"
#include "train/peft.h"

/* The first one contained in a tensor's name. */
static const struct part {
    const char *name, *in_name;
} parts[] = {
    {"k_r", "self_attn.k_r_proj."},
    {"k", "self_attn.k_proj."},
    {"v", "self_attn.v_proj."},
    {"o", "self_attn.o_proj."},
    {"mlp", ".mlp."},
    {"down", ".down_"},
    {"up_k", ".up_k."},
    {"up_v", ".up_v."},
    {"norm", "norm.weight"},
    {"projector", "projector"},
    {"embed", "embed_tokens"},
    {"head", "lm_head"},
};
enum { PARTS = sizeof parts / sizeof *parts };

/* The table of docs/method.md, section 5; k and v are only there where attention is as it was. */
static const struct set {
    const char *name, *trains;
} sets[] = {
    {"v2", "q_rope q_rest k_r k v down up_k up_v o norm"},
    {"v3", "q_rope q_rest k_r down up_k up_v"},
    {"v4", "q_rope q_rest down up_k up_v norm"},
    {"v5", "down up_k up_v"},
    {"v6", "down"},
    {"v3+norms", "q_rope q_rest k_r down up_k up_v norm"},
    {"v5+norms", "down up_k up_v norm"},
    {"v6+norms", "down norm"},
    {"kv+rope", "q_rope k_r down up_k up_v"},
    {"all", "q_rope q_rest k_r k v down up_k up_v o norm embed head mlp"},
    {"none", ""},
};
enum { SETS = sizeof sets / sizeof *sets };

/* NULL: the vision tower's, which no set trains. Once attention is partial or MLA, q_proj is two
 * parameters: the rotated rows, and the others. */
static const char *part_of(const struct model *m, const struct param *p)
{
    if (strstr(p->name, "vision_tower")) return NULL;
    if (strstr(p->name, "q_proj"))
        return m->state != ATTN_FULL && p->row0 == 0 ? "q_rope" : "q_rest";
    for (int i = 0; i < PARTS; i++)
        if (strstr(p->name, parts[i].in_name)) return parts[i].name;
    fail_msg("%s is of no known part", p->name);
    return NULL;
}

static bool in_list(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = list; (at = strstr(at, word)); at += n)
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0')) return true;
    return false;
}

static void check(struct model *m, int set, bool projector)
{
    struct err e = {0};

    must(model_train(m, peft_kinds(set, projector), &e), &e);
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        const char *part = part_of(m, p);
        bool want = part && (in_list(sets[set].trains, part) ||
                             (projector && strcmp(part, "projector") == 0));
        if (p->t.needs_grad != want || (p->t.grad != NULL) != want)
            fail_msg("%s%s: %s from row %d on is%s trained", sets[set].name,
                     projector ? " and projector" : "", p->name, (int)p->row0, want ? " not" : "");
    }
}

static void check_all(struct model *m)
{
    for (int set = 0; set < SETS; set++)
        for (int projector = 0; projector < 2; projector++)
            check(m, set, projector);
}

static void test_sets(void **state)
{
    static const char *const names[] = {PEFT_NAMES};

    (void)state;
    assert_int_equal(sizeof names / sizeof *names, SETS);
    for (int i = 0; i < SETS; i++)
        assert_string_equal(names[i], sets[i].name);
    assert_string_equal(sets[PEFT_KV_ROPE].name, "kv+rope");
    assert_string_equal(sets[PEFT_ALL].name, "all");
    for (int i = -2; i < 2 * KV_METHODS; i++) { /* FULL, PARTIAL, then the methods */
        struct model m;

        tiny_model(&m, 2, true, 3); /* with biases, which are trained with their weights */
        if (i > -2) tiny_partial(&m, 4);
        if (i >= 0) tiny_mla(&m, (enum kv_method)(i / 2), i % 2, 6);
        check_all(&m);
        model_close(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sets)};

    return cmocka_run_group_tests_name("peft", tests, NULL, NULL);
}
