/* metrics.c - writing, reading and rewinding metrics.jsonl. */
#include "train/record/metrics.h"

#include "base/file.h"
#include "base/json/jsonc.h"
#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_LIMIT ((size_t)1 << 20)

/* ---- write ---- */

static bool add_number(cJSON *line, const struct metrics_value *m)
{
    struct err ignored;
    char *note;
    bool ok;

    if (isfinite(m->value)) return cJSON_AddNumberToObject(line, m->key, m->value);
    note = mem_printf(&ignored, "%s_note", m->key);
    ok = note && cJSON_AddNullToObject(line, m->key) &&
         cJSON_AddStringToObject(line, note,
                                 isnan(m->value) ? "nan"
                                 : m->value > 0  ? "inf"
                                                 : "-inf");
    free(note);
    return ok;
}

/* Truncates the file after its last newline, and leaves it positioned for appending. */
static bool cut_half_line(FILE *fp, const char *path, struct err *e)
{
    long size, end;
    int c = '\n';

    if (fseek(fp, 0, SEEK_END) != 0 || (size = ftell(fp)) < 0) goto fail;
    for (end = size; end > 0; end--) {
        if (fseek(fp, end - 1, SEEK_SET) != 0 || (c = fgetc(fp)) == EOF) goto fail;
        if (c == '\n') break;
    }
    if (end < size && ftruncate(fileno(fp), end) != 0) goto fail;
    if (fseek(fp, 0, SEEK_END) == 0) return true; /* C requires this between a read and a write */
fail:
    return err_system(e, errno, "%s", path);
}

bool metrics_open(struct metrics *m, const char *path, struct err *e)
{
    memset(m, 0, sizeof *m);
    m->path = mem_strdup(path, e);
    if (!m->path) return false;
    m->fp = fopen(path, "ab+");
    if (!m->fp) err_system(e, errno, "%s", path);
    if (m->fp && cut_half_line(m->fp, path, e)) return true;
    metrics_close(m);
    return false;
}

bool metrics_write(struct metrics *m, const struct metrics_value *line, size_t n, struct err *e)
{
    cJSON *object = cJSON_CreateObject();
    char *text = NULL;
    bool ok = object;

    for (size_t i = 0; ok && i < n; i++)
        ok = line[i].text ? cJSON_AddStringToObject(object, line[i].key, line[i].text) != NULL
                          : add_number(object, &line[i]);
    if (!ok) err_set(e, "out of memory for a line");
    text = ok ? jsonc_print(object, false, e) : NULL;
    cJSON_Delete(object);
    if (!text) return err_context(e, "%s", m->path);
    ok = fprintf(m->fp, "%s\n", text) >= 0 && fflush(m->fp) == 0;
    if (!ok) err_system(e, errno, "%s: cannot be written", m->path);
    free(text);
    return ok;
}

void metrics_close(struct metrics *m)
{
    if (m->fp) fclose(m->fp); /* every line was flushed */
    free(m->path);
    memset(m, 0, sizeof *m);
}

/* ---- read ---- */

static const struct metrics_value *find(const struct metrics_line *l, const char *key)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->m[i].key, key) == 0) return &l->m[i];
    return NULL;
}

double metrics_number(const struct metrics_line *l, const char *key)
{
    const struct metrics_value *m = find(l, key);

    return m && !m->text ? m->value : (double)NAN;
}

const char *metrics_text(const struct metrics_line *l, const char *key)
{
    const struct metrics_value *m = find(l, key);

    return m ? m->text : NULL;
}

/* What a null stands for, from its note. */
static bool null_value(const cJSON *object, const char *key, double *v, struct err *e)
{
    char *note_key = mem_printf(e, "%s_note", key);
    const char *note =
        note_key ? cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, note_key)) : NULL;
    bool ok = note_key;

    *v = (double)NAN;
    if (note && strcmp(note, "inf") == 0) *v = (double)INFINITY;
    if (note && strcmp(note, "-inf") == 0) *v = -(double)INFINITY;
    free(note_key);
    return ok;
}

struct reader {
    const char *path;
    metrics_fn *fn;
    void *arg;
    struct metrics_value *m; /* the members of the current line */
    size_t cap;
};

/* Passes a line to the callback; its members borrow the strings of `object`. */
static bool hand_over(struct reader *r, const cJSON *object, struct metrics_line *l, struct err *e)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, object)
    {
        struct metrics_value m = {.key = item->string};

        if (cJSON_IsString(item))
            m.text = item->valuestring;
        else if (cJSON_IsNumber(item))
            m.value = item->valuedouble;
        else if (!cJSON_IsNull(item))
            return err_set(e, "%s:%ld: '%s' is neither a string nor a number", r->path, l->number,
                           item->string);
        else if (!null_value(object, item->string, &m.value, e))
            return false;
        if (!mem_grow(&r->m, &r->cap, l->n + 1, sizeof m, e)) return false;
        r->m[l->n++] = m;
    }
    l->m = r->m;
    return r->fn(r->arg, l, e);
}

/* One line without its newline. A power cut can leave zero bytes, which are not JSON. */
static bool read_line(struct reader *r, const char *text, size_t len, long number, struct err *e)
{
    const struct jsonc_rules rules = {.line = number, .plain = true};
    struct metrics_line l = {.json = text, .number = number};
    struct jsonc doc;

    if (!jsonc_parse_as(&doc, r->path, text, len, &rules, e))
        return !e->machine && err_set(e, "%s; delete this line to go on", e->msg);
    bool ok = cJSON_IsObject(doc.root)
                  ? hand_over(r, doc.root, &l, e)
                  : err_set(e, "%s:%ld: is not a JSON object; delete this line to go on", r->path,
                            number);
    jsonc_close(&doc);
    return ok;
}

bool metrics_each(const char *path, metrics_fn *fn, void *arg, struct err *e)
{
    struct reader r = {.path = path, .fn = fn, .arg = arg};
    FILE *fp = fopen(path, "rb");
    char *text = NULL;
    size_t cap = 0;
    ssize_t len = 0;
    bool ok = true;

    if (!fp) return err_system(e, errno, "%s", path);
    for (long number = 1; ok && (len = getline(&text, &cap, fp)) > 0; number++) {
        if (text[len - 1] != '\n') break; /* incomplete */
        text[len - 1] = '\0';
        if ((size_t)len > LINE_LIMIT)
            ok = err_set(e, "%s:%ld: a line of %zd bytes, at most %zu are allowed", path, number,
                         len, LINE_LIMIT);
        else
            ok = read_line(&r, text, (size_t)len - 1, number, e);
    }
    if (ok && len < 0 && !feof(fp)) ok = err_system(e, errno, "%s", path);
    free(text);
    free(r.m);
    fclose(fp);
    return ok;
}

/* ---- rewind ---- */

struct rewind {
    const struct metrics_value *tags;
    size_t n;
    double last_step;
    FILE *out;
};

static bool keep_line(void *arg, const struct metrics_line *l, struct err *e)
{
    const struct rewind *r = arg;
    bool drop = metrics_number(l, "step") > r->last_step; /* false if there is no step */

    for (size_t i = 0; drop && i < r->n; i++) {
        const char *have = metrics_text(l, r->tags[i].key);
        drop = have && strcmp(have, r->tags[i].text) == 0;
    }
    if (!drop) fprintf(r->out, "%s\n", l->json); /* the commit checks the error flag */
    (void)e;
    return true;
}

bool metrics_rewind(const char *path, const struct metrics_value *tags, size_t n, double last_step,
                    struct err *e)
{
    struct rewind r = {.tags = tags, .n = n, .last_step = last_step};
    struct file_out out;
    bool there;

    if (!file_there(path, &there, e)) return false;
    if (!there) return true;
    if (!file_out_open(&out, path, e)) return false;
    r.out = out.fp;
    if (metrics_each(path, keep_line, &r, e)) return file_out_commit(&out, e);
    file_out_abort(&out);
    return false;
}
