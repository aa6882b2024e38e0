/* cache_kind.c - see cache_kind.h. */
#include "model/cache_kind.h"
#include "base/err.h"

#include <stdio.h>
#include <string.h>

const char *const cache_row_names[CACHE_ROWS] = {"rotated key", "key or latent", "value or latent"};

/* What may follow the forms. */
static const struct option {
    const char *name;
    size_t at; /* of its bool */
} options[] = {
    {"rotate", offsetof(struct cache_kind, rotate)},
    {"exact", offsetof(struct cache_kind, exact)},
};
enum { OPTIONS = sizeof options / sizeof *options };

static bool *option_of(struct cache_kind *k, const struct option *o)
{
    return (bool *)((char *)k + o->at);
}

struct cache_kind cache_kind_f32(void)
{
    const struct row_form *reals = row_form_at(0);

    return (struct cache_kind){.form = {reals, reals, reals}};
}

/* A word of a name: a form, at most two, or an option, once. */
static bool take_word(struct cache_kind *k, const char *word, size_t n, int *forms)
{
    const struct row_form *f = row_form_find(word, n);

    if (f && *forms < 2) {
        for (int i = *forms ? CACHE_KEY : CACHE_ROPE; i < CACHE_ROWS; i++)
            k->form[i] = f;
        ++*forms;
        return true;
    }
    for (int i = 0; *forms && i < OPTIONS; i++) {
        bool *set = option_of(k, &options[i]);
        if (strlen(options[i].name) != n || memcmp(options[i].name, word, n) != 0 || *set) continue;
        return *set = true;
    }
    return false;
}

/* What is senseless. */
static bool check(const struct cache_kind *k, const char *name, struct err *e)
{
    const struct row_form *rope = k->form[CACHE_ROPE], *latent = k->form[CACHE_VALUE];

    if (k->rotate && latent->most <= 0)
        return err_set(
            e,
            "\"%.40s\": latents in %s need no rotation: it is for those that are packed, "
            "as in q8",
            name, latent->name);
    if (k->exact && !rope->pack && !latent->pack)
        return err_set(e,
                       "\"%.40s\": nothing is packed, so prompts are exact in any case: leave "
                       "\"+exact\" out",
                       name);
    if (latent->channels)
        return err_set(e,
                       "\"%.40s\": %s packs channels over runs of tokens, which is for keys: give "
                       "a form of values behind it, as in kivi4k+kivi4v+exact",
                       name, latent->name);
    if (!k->exact && rope->channels)
        return err_set(
            e,
            "\"%.40s\": %s packs runs of tokens, of which a prompt's would see later ones: "
            "\"+exact\" is needed",
            name, rope->name);
    return true;
}

bool cache_kind_waits(const struct cache_kind *k)
{
    return k->form[CACHE_ROPE]->run || k->form[CACHE_VALUE]->run;
}

/* Forms and options; there_are: what is allowed. */
static bool take_words(struct cache_kind *k, const char *name, const char *there_are, struct err *e)
{
    int forms = 0;

    for (const char *at = name;; at++) {
        const size_t n = strcspn(at, "+");
        if (!take_word(k, at, n, &forms))
            return err_set(e, "\"%.40s\" is no kind of cache; there are %s", name, there_are);
        if (!*(at += n)) return true;
    }
}

bool cache_kind_read(struct cache_kind *k, const char *name, struct err *e)
{
    bool is;

    *k = cache_kind_f32();
    if (!evict_read(&k->evict, name, &is, e)) return false;
    return is || (take_words(k, name, CACHE_KIND_NAMES, e) && check(k, name, e));
}

bool cache_kind_read_kept(struct cache_kind *k, const char *name, struct err *e)
{
    struct err unused;
    bool is;

    *k = cache_kind_f32();
    evict_read(&k->evict, name, &is, &unused);
    if (!is && !take_words(k, name, CACHE_KIND_KEPT, e)) return false;
    if (is || k->exact || cache_kind_waits(k))
        return err_set(
            e,
            "\"%.40s\" is for scoring only: what stays cached between turns would not be "
            "what the prompt was read with; there are " CACHE_KIND_KEPT,
            name);
    return check(k, name, e);
}

const char *cache_kind_text(char text[CACHE_KIND_TEXT], const struct cache_kind *k)
{
    struct cache_kind all = *k;

    if (k->evict.rule) return evict_text(text, &k->evict);
    int used = snprintf(text, CACHE_KIND_TEXT, "%s", k->form[CACHE_ROPE]->name);

    if (k->form[CACHE_KEY] != k->form[CACHE_ROPE])
        used += snprintf(text + used, (size_t)(CACHE_KIND_TEXT - used), "+%s",
                         k->form[CACHE_KEY]->name);
    for (int i = 0; i < OPTIONS; i++)
        if (*option_of(&all, &options[i]))
            used += snprintf(text + used, (size_t)(CACHE_KIND_TEXT - used), "+%s", options[i].name);
    return text;
}

bool cache_kind_suits(const struct cache_kind *k, const struct model *m, struct err *e)
{
    char text[CACHE_KIND_TEXT];

    if (k->rotate && m->state != ATTN_MLA)
        return err_set(
            e,
            "a cache \"%s\" has latents that are rotated, and this model has none: leave "
            "\"+rotate\" out",
            cache_kind_text(text, k));
    if (k->evict.rule && m->state != ATTN_FULL)
        return err_set(
            e,
            "a cache \"%s\" takes tokens out of the original's, and this model's attention "
            "is converted: leave it out",
            cache_kind_text(text, k));
    return true;
}

int64_t cache_kind_bytes(const struct cache_kind *k, const struct model *m)
{
    int64_t bytes = 0, width[CACHE_ROWS];

    for (int64_t l = 0; l < m->cfg.text.num_hidden_layers; l++) {
        model_cache_widths(m, l, width);
        for (int i = 0; i < CACHE_ROWS; i++)
            bytes += row_form_bytes(k->form[i], width[i]);
    }
    return bytes;
}
