/* open_tensors.c - which tensor in the files is which parameter, and what happens to the others.
 * The rules are those of transformers 5.24 (modeling_utils.py), except that a missing or unused
 * tensor is an error here and only a warning there. */
#include "base/mem.h"
#include "model/family/family.h"
#include "model/open_parts.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);

    return n >= k && strcmp(s + n - k, end) == 0;
}

bool model_note(struct model *m, struct err *e, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!mem_grow(&m->notes, &m->cap_notes, m->n_notes + 1, sizeof *m->notes, e)) return false;
    m->notes[m->n_notes] = mem_strdup(text, e);
    m->n_notes += m->notes[m->n_notes] != NULL;
    return m->n_notes && m->notes[m->n_notes - 1];
}

/* ---- the names ---- */

static const struct st_tensor *find(const struct model *m, const char *prefix, const char *tensor)
{
    char name[300];

    snprintf(name, sizeof name, "%s%s", prefix, tensor);
    return model_find_tensor(m, name);
}

/* A tensor whose name is right except for its first *n bytes; NULL if none. */
static const char *find_wrapped(const struct model *m, int *n)
{
    for (const struct name_layout *l = m->cfg.family->layouts; l->text; l++) {
        char end[300];
        if (!*l->text) continue;
        snprintf(end, sizeof end, ".%snorm.weight", l->text);
        for (size_t i = 0; i < m->files.count; i++) {
            const char *name = m->files.tensors[i]->name;
            *n = (int)strlen(name) - (int)strlen(end) + 1;
            if (ends_with(name, end)) return name;
        }
    }
    return NULL;
}

static bool choose_layout(struct model *m, struct err *e)
{
    const struct family *f = m->cfg.family;
    const char *wrapped;
    int n;

    for (m->layout = f->layouts; m->layout->text; m->layout++)
        if (find(m, m->layout->text, "norm.weight") &&
            (!f->marker || find(m, m->layout->vision, f->marker)))
            return true;
    wrapped = find_wrapped(m, &n);
    if (wrapped)
        return err_set(e,
                       "%s: the tensors' names begin with \"%.*s\", which a wrapper around the "
                       "model has put there: save the model itself (save_pretrained)",
                       m->dir, n, wrapped);
    return err_set(
        e,
        "%s: model_type is \"%s\", but no tensor ...norm.weight%s%s has a name that such a "
        "model gives it; the first tensor is %s",
        m->cfg.file, f->model_type, f->marker ? " or ..." : "", f->marker ? f->marker : "",
        m->files.count ? m->files.tensors[0]->name : "none");
}

/* ---- the head ---- */

/* Under the layout's name, or else under that of any other layout, of whichever family. */
static const struct st_tensor *find_head(const struct model *m)
{
    const struct st_tensor *t = model_find_tensor(m, m->layout->head);

    for (const struct family *const *f = families; *f; f++)
        for (const struct name_layout *l = (*f)->layouts; !t && l->text; l++)
            t = model_find_tensor(m, l->head);
    return t;
}

const struct st_tensor *model_param_tensor(const struct model *m, const struct param *p)
{
    const struct st_tensor *t = model_find_tensor(m, p->name);

    return t || p != m->head ? t : find_head(m);
}

/* As torch.equal compares two tensors of one dtype. */
static bool same_values(const struct st_tensor *a, const struct st_tensor *b)
{
    enum { BLOCK = 1024 };
    const size_t count = st_count(a);
    float x[BLOCK], y[BLOCK];
    struct err e;

    if (a->ndim != b->ndim || memcmp(a->dim, b->dim, sizeof a->dim) != 0) return false;
    if (a->dtype == b->dtype && memcmp(a->data, b->data, a->bytes) == 0) return true;
    for (size_t i = 0; i < count; i += BLOCK) {
        const size_t n = count - i < BLOCK ? count - i : BLOCK;
        if (!st_read_f32(a, i, n, x, &e) || !st_read_f32(b, i, n, y, &e)) return false;
        for (size_t k = 0; k < n; k++)
            if (!(x[k] == y[k])) return false;
    }
    return true;
}

static bool settle_head(struct model *m, struct err *e)
{
    const struct st_tensor *head = find_head(m);
    const struct st_tensor *embed = find(m, m->layout->text, "embed_tokens.weight");

    if (!m->cfg.text.tie_word_embeddings)
        return head || err_set(e,
                               "%s: tie_word_embeddings is false, but there is no tensor %s: "
                               "config.json and the tensors must be of the same model",
                               m->cfg.file, m->layout->head);
    if (!head || !embed || same_values(head, embed)) return true;
    return hf_config_untie(&m->cfg, e) &&
           model_note(m, e,
                      "%s: tie_word_embeddings is true, but tensor %s is not equal to %s: both are "
                      "used, as by transformers 5 (older ones leave the first out)",
                      m->cfg.file, head->name, embed->name);
}

/* ---- missing and unused tensors ---- */

/* Names that no plain model's weights have, with the programs that produce them. */
#define QUANTIZED(how)                                                                             \
    "quantized weights (" how "), which cannot be trained: give the model as it was before"
#define WRAPPED(who)                                                                               \
    who ", which has wrapped the model's parts: save the model itself (save_pretrained)"
#define OTHER_CODE                                                                                 \
    "LLaVA's own code: bring the model to transformers' form, as llava-hf/llava-1.5-7b-hf is"
static const struct {
    const char *pattern, *is_of;
} foreign[] = {
    {"*.qweight", QUANTIZED("GPTQ or AWQ")},
    {"*.qzeros", QUANTIZED("GPTQ or AWQ")},
    {"*.SCB", QUANTIZED("bitsandbytes, 8 bits")},
    {"*.absmax", QUANTIZED("bitsandbytes, 4 bits")},
    {"*.weight_packed", QUANTIZED("compressed-tensors")},
    {"*.weight_scale", QUANTIZED("float8 or compressed-tensors")},
    {"*.weight_scale_inv", QUANTIZED("float8")},
    {"*.codebooks", QUANTIZED("AQLM")},
    {"*.lora_[AB].*", "an adapter that was not merged: merge it (PEFT's merge_and_unload), then "
                      "save_pretrained"},
    {"*._fsdp_wrapped_module.*", WRAPPED("PyTorch's FSDP")},
    {"*._checkpoint_wrapped_module.*", WRAPPED("a training program")},
    {"*.mm_projector.*", OTHER_CODE},
    {"*.vision_tower.vision_tower.*", OTHER_CODE},
};

bool model_refuse_empty(const struct st_tensor *t, struct err *e)
{
    return err_set(e,
                   "%s: tensor %s: has no values: DeepSpeed's ZeRO-3 saves such where parts are "
                   "not gathered; its zero_to_fp32.py makes whole ones of the checkpoint",
                   t->file, t->name);
}

/* The keys' part that is not rotated has no rows where every pair stays rotated; loading looks at
 * its shape. */
static bool may_be_empty(const struct st_tensor *t)
{
    return fnmatch("*.self_attn.kv_proj*.up_k.*", t->name, 0) == 0;
}

static bool refuse_foreign(const struct model *m, struct err *e)
{
    for (size_t i = 0; i < m->files.count; i++) {
        const struct st_tensor *t = m->files.tensors[i];
        if (t->bytes == 0 && !may_be_empty(t)) return model_refuse_empty(t, e);
        for (size_t k = 0; k < sizeof foreign / sizeof *foreign; k++)
            if (fnmatch(foreign[k].pattern, t->name, 0) == 0)
                return err_set(e, "%s: tensor %s: is of %s", t->file, t->name, foreign[k].is_of);
    }
    return true;
}

bool model_choose_names(struct model *m, struct err *e)
{
    return refuse_foreign(m, e) && choose_layout(m, e) && settle_head(m, e);
}

bool model_is_zero(const struct st_tensor *t)
{
    const uint8_t *p = t->data;

    for (size_t i = 0; i < t->bytes; i++)
        if (p[i]) return false;
    return true;
}

static bool check_missing(const struct model *m, struct err *e)
{
    const char *first = NULL, *last = "";
    char more[48] = "";
    int64_t n = 0;

    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        if (model_param_tensor(m, p) || strcmp(p->name, last) == 0) continue; /* the other part */
        last = p->name;
        if (!first) first = p->name;
        n++;
    }
    if (!first) return true;
    if (n > 1) snprintf(more, sizeof more, ", and %lld more", (long long)n - 1);
    return err_set(e,
                   "%s: tensor %s is missing%s: the files are not complete, or config.json is "
                   "another model's",
                   m->dir, first, more);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Buffers in older checkpoints, which transformers drops too. */
static bool is_computed(const char *name)
{
    return strstr(name, "rotary_emb.inv_freq") || strcmp(name, "position_ids") == 0 ||
           ends_with(name, ".position_ids");
}

static bool note_some(struct model *m, const struct tensors_found *s, const char *why,
                      struct err *e)
{
    char more[48] = "";

    if (s->n == 0) return true;
    if (s->n > 1) snprintf(more, sizeof more, " and %zu more", s->n - 1);
    return model_note(m, e, "%s: not used, for %s: tensor %s%s", s->first->file, why,
                      s->first->name, more);
}

/* `names` are the parameters' names, sorted. */
static bool check_unused(struct model *m, const char **names, struct err *e)
{
    struct tensors_found unused = {0}, computed = {0}, zeros = {0};
    const struct st_tensor *head = find_head(m); /* used, or equal to the tensor used */
    char more[48] = "";

    for (size_t i = 0; i < m->files.count; i++) {
        const struct st_tensor *t = m->files.tensors[i];
        if (t == head || bsearch(&t->name, names, (size_t)m->n_params, sizeof *names, by_name))
            continue;
        tensors_count(is_computed(t->name)                              ? &computed
                      : ends_with(t->name, ".bias") && model_is_zero(t) ? &zeros
                                                                        : &unused,
                      t);
    }
    if (unused.n > 1) snprintf(more, sizeof more, ", nor are %zu more", unused.n - 1);
    if (unused.n)
        return err_set(e,
                       "%s: tensor %s: is not used by a model of this config.json%s: remove it, or "
                       "use the config.json that belongs to it",
                       unused.first->file, unused.first->name, more);
    return note_some(m, &computed, "it is computed anew", e) &&
           note_some(m, &zeros, "it is a bias of zeros", e);
}

bool model_check_tensors(struct model *m, struct err *e)
{
    const char **names;
    bool ok = check_missing(m, e);

    names = ok ? mem_new((size_t)m->n_params, sizeof *names, "parameter names", e) : NULL;
    for (int64_t i = 0; names && i < m->n_params; i++)
        names[i] = m->params[i].name;
    if (names) qsort(names, (size_t)m->n_params, sizeof *names, by_name);
    ok = names && check_unused(m, names, e);
    free(names);
    return ok;
}
