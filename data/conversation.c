/* conversation.c - see conversation.h. */
#include "data/conversation.h"
#include "base/mem.h"
#include "data/conversation_parts.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool reader_refuse(struct reader *r, enum drop_reason reason, const cJSON *item, const char *fmt,
                   ...)
{
    char msg[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    r->reason = reason;
    return jsonc_fail(&r->c->doc, item, r->e, "%s", msg);
}

/* Counts a name as unused. */
static bool note(struct reader *r, enum unused_kind kind, const char *name, const cJSON *at)
{
    return !r->unused || unused_add(r->unused, kind, name, strlen(name), &r->c->doc, at, r->e);
}

bool reader_own(struct reader *r, char *s)
{
    struct conversation *c = r->c;

    if (!s) return false;
    if (!mem_grow(&c->strings, &c->cap_strings, c->n_strings + 1, sizeof *c->strings, r->e)) {
        free(s);
        return false;
    }
    c->strings[c->n_strings++] = s;
    return true;
}

bool reader_take(struct reader *r, const cJSON *item, struct text *out)
{
    if (!r->c->doc.zeros) {
        *out = (struct text){item->valuestring, strlen(item->valuestring)};
        return true;
    }
    out->s = jsonc_string(&r->c->doc, item, &out->n, r->e);
    return reader_own(r, out->s);
}

/* ---- keys ---- */

static bool is_absent(const struct jsonc *doc, const cJSON *item, enum key_use use)
{
    if (cJSON_IsNull(item)) return true;
    if (use == KEY_TEXT || use == KEY_PLAIN) return false; /* an empty answer is still an answer */
    if (cJSON_IsString(item))
        return !item->valuestring[0] && strncmp(jsonc_item_text(doc, item), "\"\"", 2) == 0;
    return (cJSON_IsArray(item) || cJSON_IsObject(item)) && !item->child;
}

bool reader_sort(struct reader *r, const cJSON *object, const struct key *keys,
                 enum unused_kind kind, struct members *m)
{
    const cJSON *item;

    memset(m, 0, sizeof *m);
    cJSON_ArrayForEach(item, object)
    {
        enum key_use use = key_use(keys, item->string);

        if (is_absent(&r->c->doc, item, use)) continue;
        if ((use == KEY_UNKNOWN || (use == KEY_SCORED && !r->from->scored)) &&
            !note(r, kind, item->string, item))
            return false;
        if (use == KEY_UNREAD)
            return note(r, kind, item->string, item) &&
                   reader_refuse(r, DROP_UNREAD, item, "\"%s\" is not read", item->string);
        m->of[use][m->of[use][0] != NULL] = item;
    }
    return true;
}

bool reader_only(struct reader *r, const struct members *m, enum key_use use, const cJSON **out)
{
    *out = m->of[use][0];
    return !m->of[use][1] ||
           reader_refuse(r, DROP_BROKEN, m->of[use][1], "has both \"%s\" and \"%s\"",
                         (*out)->string, m->of[use][1]->string);
}

/* ---- texts ---- */

/* Refuses marks of unsupported content. */
static bool check_marks(struct reader *r, const struct text *t, const cJSON *at)
{
    const char *end = t->s + t->n, *own_mark = r->from->image_mark;

    for (const char *p = t->s; (p = memchr(p, '<', (size_t)(end - p))) != NULL; p++) {
        for (const char *const *mark = unread_marks; *mark; mark++) {
            size_t n = strlen(*mark);
            if ((size_t)(end - p) < n || memcmp(p, *mark, n) != 0) continue;
            if (own_mark && strcmp(*mark, own_mark) == 0) continue;
            return note(r, UNUSED_MARK, *mark, at) &&
                   reader_refuse(r, DROP_UNREAD, at, "the mark \"%s\" is not read", *mark);
        }
    }
    return true;
}

static bool is_word(const struct text *t, const char *word)
{
    return t->n == strlen(word) && memcmp(t->s, word, t->n) == 0;
}

/* Appends one part of a turn's content. */
static bool add_part(struct reader *r, const cJSON *part, struct text *to, size_t *cap)
{
    const cJSON *type, *text, *picture;
    struct text word, more = {(char *)(uintptr_t)IMAGE_MARK, strlen(IMAGE_MARK)};
    struct members m;

    if (!reader_sort(r, part, part_keys, UNUSED_PART_KEY, &m) ||
        !reader_only(r, &m, KEY_TYPE, &type) || !reader_only(r, &m, KEY_TEXT, &text) ||
        !reader_only(r, &m, KEY_PICTURES, &picture))
        return false;
    if (!cJSON_IsString(type))
        return reader_refuse(r, DROP_BROKEN, part, "a part of a turn needs a \"type\"");
    if (!reader_take(r, type, &word)) return false;
    if (is_word(&word, "text")) {
        if (!cJSON_IsString(text))
            return reader_refuse(r, DROP_BROKEN, part, "\"text\" is missing");
        if (!reader_take(r, text, &more)) return false;
    } else if (is_word(&word, "image") || is_word(&word, "image_url")) {
        if (picture && !reader_picture(r, picture->string, picture)) return false;
    } else {
        return note(r, UNUSED_PART, word.s, type) &&
               reader_refuse(r, DROP_UNREAD, type, "a part of type \"%.40s\" is not read", word.s);
    }
    if (!mem_grow(&to->s, cap, to->n + more.n + 1, 1, r->e)) return false;
    memcpy(to->s + to->n, more.s, more.n);
    to->n += more.n;
    to->s[to->n] = '\0';
    return true;
}

/* A turn's text: a string, or its parts joined. */
static bool read_content(struct reader *r, const cJSON *content, struct text *out)
{
    const cJSON *part;
    size_t cap = 0;
    bool ok = true;

    if (cJSON_IsString(content)) return reader_take(r, content, out);
    *out = (struct text){mem_strdup("", r->e), 0};
    cJSON_ArrayForEach(part, content)
    {
        ok = ok && add_part(r, part, out, &cap);
    }
    return reader_own(r, out->s) && ok;
}

static bool find_speaker(struct reader *r, const cJSON *item, enum role *role)
{
    const struct speaker *s = speakers;
    char known[256] = "";
    struct text name;

    if (!reader_take(r, item, &name)) return false;
    while (s->name && !is_word(&name, s->name))
        s++;
    *role = s->role;
    if (s->name && !s->unread) return true;
    if (!note(r, UNUSED_ROLE, name.s, item)) return false;
    if (s->name)
        return reader_refuse(r, DROP_UNREAD, item, "\"%s\" is \"%s\": calls of tools are not read",
                             item->string, s->name);
    for (s = speakers; s->name; s++)
        if (!s->unread)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                     known[0] ? ", " : "", s->name);
    return reader_refuse(r, DROP_BROKEN, item, "\"%s\" is \"%.40s\"; known are %s", item->string,
                         name.s, known);
}

static bool add_message(struct reader *r, enum role role, const struct text *t, const cJSON *at)
{
    struct conversation *c = r->c;

    if (!check_marks(r, t, at) ||
        !mem_grow(&c->messages, &c->cap, c->n + 1, sizeof *c->messages, r->e))
        return false;
    c->messages[c->n++] = (struct message){role, t->s, t->n};
    if (role == ROLE_ASSISTANT) c->answer = *t;
    return true;
}

/* A flag on an answer; true and 1 ask for what happens anyway. */
static bool check_learnt(struct reader *r, const cJSON *item)
{
    if (!item || cJSON_IsTrue(item) || (cJSON_IsNumber(item) && item->valuedouble == 1))
        return true;
    return note(r, UNUSED_TURN_KEY, item->string, item) &&
           reader_refuse(r, DROP_UNREAD, item, "\"%s\" is not read: every answer is learnt",
                         item->string);
}

/* system: the sample has a "system" key, which already serves as the first message. */
static bool add_turn(struct reader *r, const cJSON *turn, bool system)
{
    const cJSON *from, *content;
    struct members m;
    struct text text;
    enum role role;

    if (!reader_sort(r, turn, turn_keys, UNUSED_TURN_KEY, &m) ||
        !reader_only(r, &m, KEY_ROLE, &from) || !reader_only(r, &m, KEY_TEXT, &content))
        return false;
    if (!cJSON_IsString(from))
        return reader_refuse(r, DROP_BROKEN, turn, "a turn needs \"from\" (or \"role\"), a string");
    if (!find_speaker(r, from, &role)) return false;
    for (int i = 0; i < 2 && role == ROLE_ASSISTANT; i++)
        if (!check_learnt(r, m.of[KEY_LEARNT][i])) return false;
    if (!cJSON_IsString(content) && !cJSON_IsArray(content))
        return reader_refuse(r, DROP_BROKEN, turn,
                             "a turn needs \"value\" (or \"content\"), a string");
    for (int i = 0; i < 2; i++)
        if (m.of[KEY_PICTURES][i] && !reader_pictures(r, m.of[KEY_PICTURES][i])) return false;
    if (!read_content(r, content, &text)) return false;
    if (system && role == ROLE_SYSTEM && r->c->n == 1) {
        const struct message *first = &r->c->messages[0];
        return (text.n == first->len && memcmp(text.s, first->text, text.n) == 0) ||
               reader_refuse(r, DROP_BROKEN, content, "differs from the sample's \"system\"");
    }
    return add_message(r, role, &text, content);
}

/* ---- the sample ---- */

static bool read_turns(struct reader *r, const cJSON *turns, const cJSON *system)
{
    size_t before = r->c->n_images;
    const cJSON *turn;
    struct text text;

    if (!cJSON_IsArray(turns))
        return reader_refuse(r, DROP_BROKEN, turns, "\"%s\" is not a list of turns", turns->string);
    if (system && !cJSON_IsString(system))
        return reader_refuse(r, DROP_BROKEN, system, "\"system\" must be a string");
    if (system && (!reader_take(r, system, &text) || !add_message(r, ROLE_SYSTEM, &text, system)))
        return false;
    cJSON_ArrayForEach(turn, turns)
    {
        if (!add_turn(r, turn, system != NULL)) return false;
    }
    return reader_agree(r, before, turns);
}

/* Neither turns nor text: the keys found instead usually tell which format it is. */
static bool refuse_shape(struct reader *r, const cJSON *sample)
{
    char keys[160] = "";
    const cJSON *item;
    int n = 0;

    if (!cJSON_IsObject(sample))
        return reader_refuse(r, DROP_BROKEN, sample, "a sample is an object");
    cJSON_ArrayForEach(item, sample)
    {
        if (key_use(sample_keys, item->string) == KEY_TURNS && cJSON_IsArray(item))
            return reader_refuse(r, DROP_BROKEN, item, "\"%s\" is an empty list: it has no turn",
                                 item->string);
        if (n++ < 4)
            snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s\"%.30s\"",
                     keys[0] ? ", " : "; it has ", item->string);
    }
    return reader_refuse(r, DROP_BROKEN, sample,
                         "no turns under \"conversations\" or \"messages\", and no \"text\"%s%s",
                         keys, n > 4 ? ", ..." : "");
}

/* A number is kept as spelled: as a double, 12345678901234567890 would become another id. */
static bool read_id(struct reader *r, const cJSON *id)
{
    const char *spelling;

    if (cJSON_IsString(id)) return reader_take(r, id, &r->c->id);
    if (!cJSON_IsNumber(id)) return note(r, UNUSED_SAMPLE_KEY, id->string, id);
    spelling = jsonc_item_text(&r->c->doc, id);
    r->c->id.n = strspn(spelling, "+-.0123456789eE");
    r->c->id.s = mem_strndup(spelling, r->c->id.n, r->e);
    return reader_own(r, r->c->id.s);
}

/* The keys that say how a sample is scored, and what they take from its turns. Without a metric
 * they say nothing. */
static bool read_scoring(struct reader *r)
{
    struct conversation *c = r->c;
    struct benchmark_turns turns = {.answer = c->answer, .id = c->id};
    const cJSON *item;

    if (!r->from->scored) return true;
    if (!benchmark_read(&c->by, &c->doc, c->doc.root, r->from->metric, r->e)) return false;
    cJSON_ArrayForEach(item, c->doc.root)
    {
        if (!c->by.metric && key_use(sample_keys, item->string) == KEY_SCORED &&
            strcmp(item->string, "metric") != 0 && !note(r, UNUSED_SAMPLE_KEY, item->string, item))
            return false;
    }
    for (size_t i = 0; i < c->n; i++)
        if (c->messages[i].role == ROLE_USER)
            turns.question =
                (struct text){(char *)(uintptr_t)c->messages[i].text, c->messages[i].len};
    if (benchmark_complete(&c->by, &turns, r->e)) return true;
    return err_context(r->e, "%s:%" PRId64 ":%" PRId64, r->from->path, r->from->line, r->from->col);
}

static bool read_sample(struct reader *r)
{
    const cJSON *sample = r->c->doc.root, *turns, *plain;
    struct members m;

    if (!cJSON_IsObject(sample)) return refuse_shape(r, sample);
    if (!reader_sort(r, sample, sample_keys, UNUSED_SAMPLE_KEY, &m) ||
        !reader_only(r, &m, KEY_TURNS, &turns))
        return false;
    plain = m.of[KEY_PLAIN][0];
    if (m.of[KEY_ID][0] && !read_id(r, m.of[KEY_ID][0])) return false;
    for (int i = 0; i < 2; i++) {
        const cJSON *pictures = m.of[KEY_PICTURES][i];
        size_t before = r->c->n_images;
        if (pictures && (!reader_pictures(r, pictures) || !reader_agree(r, before, pictures)))
            return false;
    }
    if (turns)
        return (!plain || note(r, UNUSED_SAMPLE_KEY, plain->string, plain)) &&
               read_turns(r, turns, m.of[KEY_SYSTEM][0]) && read_scoring(r);
    if (m.of[KEY_SYSTEM][0] && !note(r, UNUSED_SAMPLE_KEY, "system", m.of[KEY_SYSTEM][0]))
        return false;
    if (!plain && r->from->scored && reader_has_choices(sample)) return reader_choices(r, sample);
    if (!plain) return refuse_shape(r, sample);
    return cJSON_IsString(plain)
               ? reader_take(r, plain, &r->c->plain)
               : reader_refuse(r, DROP_BROKEN, plain, "\"%s\" must be a string", plain->string);
}

bool conversation_read(struct conversation *c, const struct conversation_source *from,
                       struct unused *unused, enum drop_reason *reason, struct err *e)
{
    const struct jsonc_rules rules = {.line = from->line,
                                      .col = from->col,
                                      .max_values = CONVERSATION_VALUES,
                                      .plain = true,
                                      .zeros = true};
    struct reader r = {.c = c, .from = from, .unused = unused, .reason = DROP_BROKEN, .e = e};
    bool ok;

    memset(c, 0, sizeof *c);
    if (from->len > CONVERSATION_BYTES) {
        *reason = DROP_TOO_LONG;
        return err_set(e, "%s:%" PRId64 ":%" PRId64 ": a sample of %zu bytes, at most %zu are read",
                       from->path, from->line, from->col, from->len, CONVERSATION_BYTES);
    }
    ok = jsonc_parse_as(&c->doc, from->path, from->json, from->len, &rules, e) && read_sample(&r);
    *reason = ok || !e->machine ? r.reason : DROPS;
    return ok;
}

void conversation_free(struct conversation *c)
{
    for (size_t i = 0; i < c->n_strings; i++)
        free(c->strings[i]);
    free(c->strings);
    free(c->messages);
    free(c->images);
    benchmark_free(&c->by);
    jsonc_close(&c->doc);
    memset(c, 0, sizeof *c);
}
