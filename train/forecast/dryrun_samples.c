/* dryrun_samples.c - samples as the model will see them: the exact string and its trained parts,
 * then the tokens in runs of the same modality and training status. */
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/text.h"
#include "data/lost.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/utf8.h"
#include "train/forecast/dryrun_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 100, TEXT_AT = 12, TOKENS_AT = 30 }; /* columns: in all; of text; of tokens */

/* A line filled word by word; a word that does not fit starts a new line. */
struct flow {
    char line[4 * WIDTH + 8];
    size_t bytes;
    int columns, indent, begin; /* begin: column of the first word */
    bool quoted;                /* quote every line */
};

static int columns_of(const char *s, size_t n)
{
    int columns = 0;

    for (size_t i = 0; i < n; i++)
        columns += ((unsigned char)s[i] & 0xC0) != 0x80;
    return columns;
}

static void flow_end(struct flow *f)
{
    if (f->columns > f->begin) log_line("%.*s%s", (int)f->bytes, f->line, f->quoted ? "\"" : "");
    f->bytes = 0;
    f->columns = 0;
}

static void flow_begin(struct flow *f, const char *label, int indent, bool quoted)
{
    f->indent = indent;
    f->quoted = quoted;
    f->bytes = (size_t)snprintf(f->line, sizeof f->line, "%-*.*s%s", indent, indent, label,
                                quoted ? "\"" : "");
    f->begin = f->columns = indent + quoted;
}

/* Adds a word, preceded by `gap` blanks unless it is the first in its line. */
static void flow_add(struct flow *f, const char *word, size_t n, int gap)
{
    int columns = columns_of(word, n);

    if (f->columns + gap + columns + f->quoted > WIDTH && f->columns > f->begin) {
        flow_end(f);
        flow_begin(f, "", f->indent, f->quoted);
    }
    if (f->columns == f->begin) gap = 0;
    if (f->bytes + (size_t)gap + n >= sizeof f->line)
        return; /* only stacked combining marks are that long */
    memset(f->line + f->bytes, ' ', (size_t)gap);
    memcpy(f->line + f->bytes + gap, word, n);
    f->bytes += (size_t)gap + n;
    f->columns += gap + columns;
}

/* Characters that a terminal shows as nothing, as a blank, or that reorder the text. */
static bool is_hidden(int32_t c)
{
    return (unicode_is_space(c) && c != ' ') || (c >= 0x80 && c < 0xa0) || c == 0xad ||
           (c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

/* Spells the character at p as inside a JSON string; returns the character's bytes. */
static size_t spell_exactly(const char *p, char out[8])
{
    size_t n;
    int32_t c = utf8_get(p, &n);

    if (c == '\n' || c == '"' || c == '\\')
        snprintf(out, 8, "\\%c", c == '\n' ? 'n' : c);
    else if (c < ' ' || c == 0x7f || is_hidden(c))
        snprintf(out, 8, "\\u%04X", (unsigned)c & 0xffff);
    else
        snprintf(out, 8, "%.*s", (int)n, p);
    return n;
}

/* Shows a part of the string in quotes, broken after blanks. */
static void show_part(const char *label, const char *text, const char *end)
{
    struct flow f;
    char word[300];
    size_t used = 0;

    flow_begin(&f, label, TEXT_AT, true);
    while (text < end) {
        bool blank = *text == ' ';
        text += spell_exactly(text, word + used);
        used += strlen(word + used);
        if (text < end && used < sizeof word / 4 && !(blank && *text != ' ')) continue;
        flow_add(&f, word, used, 0);
        used = 0;
    }
    flow_end(&f);
}

/* Shows tokens added by the tokenizer's post-processor, which are not in the string:
 * those from *at on. */
static void show_added(const struct run *r, const struct tokens *t, size_t *at)
{
    struct flow f;

    flow_begin(&f, "  added", TEXT_AT, false);
    for (; *at < t->n && t->v[*at].begin == t->v[*at].end; ++*at) {
        const char *known = tokenizer_piece(r->tokenizer, t->v[*at].id);
        char piece[120];
        text_plain(piece, sizeof piece, known, strlen(known));
        flow_add(&f, piece, strlen(piece), 2);
    }
    flow_end(&f);
}

/* Where a byte of the text is, once what no token stands for has been taken out: kept[i] bytes stay
 * of the first i. */
static void move_ranges(struct rendered *s, const size_t *kept)
{
    for (size_t i = 0; i < s->n_trained; i++)
        s->trained[i] = (struct byte_range){kept[s->trained[i].begin], kept[s->trained[i].end]};
}

/* Takes out of the text what no token stands for, or only the one for the unknown: the model does
 * not see it. */
static bool keep_known(const struct run *r, struct rendered *s, const struct tokens *t,
                       struct err *e)
{
    size_t *kept = mem_new(s->len + 1, sizeof *kept, "a sample's text", e), n = 0;
    const int32_t unknown = tokenizer_unknown(r->tokenizer);

    if (!kept) return false;
    for (size_t k = 0; k < t->n; k++) /* 1 where a byte is kept */
        for (int64_t i = t->v[k].begin; i < t->v[k].end; i++)
            kept[i] = t->v[k].id != unknown;
    for (size_t i = 0; i < s->len; i++) {
        const bool keep = kept[i];
        kept[i] = n;
        if (keep) s->text[n++] = s->text[i];
    }
    kept[s->len] = n;
    move_ranges(s, kept);
    s->len = n;
    free(kept);
    return true;
}

/* The tokens of a sample's text; what has none is named, and taken out. */
static bool show_lost(const struct run *r, struct rendered *s, struct tokens *t, struct err *e)
{
    struct tokenizer_scratch *sc = tokenizer_scratch_new(r->tokenizer, e);
    char names[LOST_TEXT];
    bool ok = sc && tokenizer_encode(r->tokenizer, sc, s->text, s->len, s->add_special, t, e);

    if (ok && tokenizer_lost(sc)->n) {
        log_line("  without a token, and not in the text below: %s",
                 lost_names(tokenizer_lost(sc), names));
        ok = keep_known(r, s, t, e);
    }
    tokenizer_scratch_free(sc);
    return ok;
}

/* Shows the whole string: trained parts, other parts, and what surrounds them. */
static bool show_text(const struct run *r, struct rendered *s, struct err *e)
{
    const char *done = s->text;
    struct tokens t = {0};
    size_t at = 0;

    if (!show_lost(r, s, &t, e)) {
        tokens_free(&t);
        return false;
    }
    show_added(r, &t, &at);
    for (size_t i = 0; i < s->n_trained; i++) {
        show_part("  text", done, s->text + s->trained[i].begin);
        done = s->text + s->trained[i].end;
        show_part("  trained", s->text + s->trained[i].begin, done);
    }
    show_part("  text", done, s->text + s->len);
    while (at < t.n && t.v[at].begin != t.v[at].end)
        at++;
    show_added(r, &t, &at);
    tokens_free(&t);
    return true;
}

/* What becomes of a picture on its way to the text. */
static void show_picture(const struct processor *p, const char *path, const struct picture_shape *s)
{
    char parts[100] = "";

    if (p->grids)
        snprintf(parts, sizeof parts, ", %lld tiles, 1 + %lld x %lld", (long long)s->inputs,
                 (long long)s->grid_h, (long long)s->grid_w);
    else if (s->inputs > 1)
        snprintf(parts, sizeof parts, ", %lld x %lld patches", (long long)s->grid_h,
                 (long long)s->grid_w);
    log_line("  picture %s: height x width %lld x %lld, resized to %lld x %lld%s, %lld tokens",
             path, (long long)s->height, (long long)s->width, (long long)s->to_h,
             (long long)s->to_w, parts, (long long)s->tokens);
}

static void show_tokens(const struct run *r, const struct sample *s, int64_t begin, int64_t end)
{
    char label[96], places[48], piece[120], word[160];
    struct flow f;

    snprintf(places, sizeof places, "%lld-%lld", (long long)begin, (long long)end - 1);
    snprintf(label, sizeof label, "  %-11s %-5s %s", places,
             s->kind[begin] == TOKEN_PLACE ? "image" : "text", s->trained[begin] ? "trained" : "-");
    flow_begin(&f, label, TOKENS_AT, false);
    for (int64_t i = begin; i < end; i++) {
        const char *known = tokenizer_piece(r->tokenizer, s->ids[i]);
        int64_t same = i;
        known = known ? known : "?";
        text_plain(piece, sizeof piece, known, strlen(known));
        while (same + 1 < end && s->ids[same + 1] == s->ids[i] && s->kind[i] == TOKEN_PLACE)
            same++;
        if (same > i)
            snprintf(word, sizeof word, "%s x %lld", piece, (long long)(same - i) + 1);
        else
            snprintf(word, sizeof word, "%s:%d", piece, (int)s->ids[i]);
        flow_add(&f, word, strlen(word), 2);
        i = same;
    }
    flow_end(&f);
}

/* Which sample it is, and what becomes of its pictures. */
static void show_head(const struct run *r, int64_t entry, const struct sample *s)
{
    const struct dataset_entry *d = &r->train.entries[entry];
    int64_t image = 0;
    char id[80], place[DATASET_PLACE], pictures[48] = "";

    for (int64_t i = 0; i < s->n; i++)
        image += s->kind[i] == TOKEN_PLACE;
    if (image) snprintf(pictures, sizeof pictures, ", %lld of them image", (long long)image);
    log_line("sample %lld, \"%s\" (%s:%s): %lld token%s%s, %lld trained", (long long)entry + 1,
             text_plain(id, sizeof id, s->id.s, s->id.n), r->train.sources[d->source].path,
             dataset_place(d, place), (long long)s->n, plural(s->n), pictures,
             (long long)d->labels);
    for (int64_t i = 0; i < s->images; i++)
        show_picture(&r->processor, r->train.images[s->image[i]].path, &s->shape[i]);
}

static bool show_sample(const struct run *r, int64_t entry, struct sample *s, struct err *e)
{
    show_head(r, entry, s);
    if (!show_text(r, &s->rendered, e)) return false;
    for (int64_t i = 0, end; i < s->n; i = end) {
        for (end = i + 1;
             end < s->n && s->kind[end] == s->kind[i] && s->trained[end] == s->trained[i];)
            end++;
        show_tokens(r, s, i, end);
    }
    return true;
}

/* For which memory is planned. */
static bool show_longest(const struct run *r, struct err *e)
{
    struct sample s;

    if (!dataset_sample(&r->train, r->train.longest_entry, &s, e)) return false;
    log_line("%s", "");
    log_line("the longest sample:");
    show_head(r, r->train.longest_entry, &s);
    sample_free(&s);
    return true;
}

bool dry_samples(const struct run *r, int64_t count, struct err *e)
{
    for (int64_t i = 0; i < count && i < r->train.n; i++) {
        struct sample s;
        if (i) log_line("%s", "");
        if (!dataset_sample(&r->train, i, &s, e)) return false;
        bool ok = show_sample(r, i, &s, e);
        sample_free(&s);
        if (!ok) return false;
    }
    return r->train.longest_entry < count || show_longest(r, e);
}
