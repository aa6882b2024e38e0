/* dryrun_samples.c - samples as the model will see them: the text, then the tokens in runs that are
 * alike in modality and in whether they are trained. */
#include "base/log.h"
#include "data/tokenizer.h"
#include "train/dryrun_parts.h"

#include <stdio.h>
#include <string.h>

enum { WIDTH = 100, LABEL = 30 }; /* columns: of the terminal, and before a run's tokens */

/* A line that is filled word by word, and begun anew where a word does not fit. */
struct flow {
    char line[4 * WIDTH + 8];
    size_t bytes;
    int columns, indent;
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
    if (f->columns > f->indent) log_line("%.*s", (int)f->bytes, f->line);
    f->bytes = 0;
    f->columns = 0;
}

static void flow_begin(struct flow *f, const char *label, int indent)
{
    f->indent = indent;
    f->bytes = (size_t)snprintf(f->line, sizeof f->line, "%-*.*s", indent, indent, label);
    f->columns = indent;
}

/* Adds a word, with `gap` blanks before it where it is not the line's first. */
static void flow_add(struct flow *f, const char *word, size_t n, int gap)
{
    int columns = columns_of(word, n);

    if (f->columns + gap + columns > WIDTH && f->columns > f->indent) {
        flow_end(f);
        flow_begin(f, "", f->indent);
    }
    if (f->columns == f->indent) gap = 0;
    if (f->bytes + (size_t)gap + n >= sizeof f->line)
        return; /* only marks upon marks are that long */
    memset(f->line + f->bytes, ' ', (size_t)gap);
    memcpy(f->line + f->bytes + gap, word, n);
    f->bytes += (size_t)gap + n;
    f->columns += gap + columns;
}

/* Spells the character at p out: itself, or what stands for a control character. Returns its bytes.
 */
static size_t spell(const char *p, char out[8])
{
    size_t n = 1;

    while (n < 4 && ((unsigned char)p[n] & 0xC0) == 0x80)
        n++;
    if ((unsigned char)*p < ' ' || *p == 0x7F)
        snprintf(out, 8, *p == '\n' ? "\\n" : "\\x%02X", (unsigned char)*p);
    else
        snprintf(out, 8, "%.*s", (int)n, p);
    return n;
}

/* Spells a name or a token out, cut where it does not fit. */
static const char *spelled(char *out, size_t size, const char *text)
{
    size_t used = 0;

    for (out[0] = '\0'; *text && used + 8 < size; used += strlen(out + used))
        text += spell(text, out + used);
    return out;
}

/* The whole string, broken behind blanks. */
static void show_text(const char *text)
{
    struct flow f;
    char word[300];
    size_t used = 0;

    flow_begin(&f, "  text", 10);
    while (*text) {
        bool blank = *text == ' ';
        text += spell(text, word + used);
        used += strlen(word + used);
        if (*text && used < sizeof word / 4 && !(blank && *text != ' ')) continue;
        flow_add(&f, word, used, 0);
        used = 0;
    }
    flow_end(&f);
}

static void show_tokens(const struct run *r, const struct sample *s, int64_t begin, int64_t end)
{
    char label[96], places[48], piece[120], word[160];
    struct flow f;

    snprintf(places, sizeof places, "%lld-%lld", (long long)begin, (long long)end - 1);
    snprintf(label, sizeof label, "  %-11s %-5s %s", places,
             s->modality[begin] == IMAGE ? "image" : "text", s->trained[begin] ? "trained" : "-");
    flow_begin(&f, label, LABEL);
    for (int64_t i = begin; i < end; i++) {
        const char *known = tokenizer_piece(r->tokenizer, s->ids[i]);
        int64_t same = i;
        spelled(piece, sizeof piece, known ? known : "?");
        while (same + 1 < end && s->ids[same + 1] == s->ids[i] && s->modality[i] == IMAGE)
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

static void show_sample(const struct run *r, int64_t entry, const struct sample *s)
{
    const struct dataset_entry *d = &r->train.entries[entry];
    int64_t image = 0;
    char id[80], pictures[48] = "";

    for (int64_t i = 0; i < s->n; i++)
        image += s->modality[i] == IMAGE;
    if (image) snprintf(pictures, sizeof pictures, ", %lld of them image", (long long)image);
    log_line("sample %lld, \"%s\" (%s:%lld): %lld tokens%s, %lld trained", (long long)entry + 1,
             spelled(id, sizeof id, s->id), r->train.sources[d->source].path, (long long)d->line,
             (long long)s->n, pictures, (long long)d->labels);
    for (int64_t i = 0; i < s->images; i++)
        log_line("  picture %s", r->train.images[s->image[i]].path);
    show_text(s->rendered);
    for (int64_t i = 0, end; i < s->n; i = end) {
        for (end = i + 1;
             end < s->n && s->modality[end] == s->modality[i] && s->trained[end] == s->trained[i];)
            end++;
        show_tokens(r, s, i, end);
    }
}

bool dry_samples(const struct run *r, int64_t count, struct err *e)
{
    for (int64_t i = 0; i < count && i < r->train.n; i++) {
        struct sample s;
        if (i) log_line("%s", "");
        if (!dataset_sample(&r->train, i, &s, e)) return false;
        show_sample(r, i, &s);
        sample_free(&s);
    }
    return true;
}
