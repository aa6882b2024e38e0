/* conversation.c - see conversation.h. */
#include "data/conversation.h"
#include "base/mem.h"
#include "data/conversation_keys.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A sample being read. */
struct reader {
    struct conversation *c;
    const struct conversation_source *from;
    struct unused *unused;
    enum drop_reason reason;
    struct err *e;
};

/* The members of one object by their use; two where two spellings of one thing are there. */
struct members {
    const cJSON *of[KEY_USES][2];
};

/* "FILE:LINE:COL: message" about an item, and false. */
__attribute__((format(printf, 4, 5))) static bool refuse(struct reader *r, enum drop_reason reason,
                                                         const cJSON *item, const char *fmt, ...)
{
    char msg[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    r->reason = reason;
    return jsonc_fail(&r->c->doc, item, r->e, "%s", msg);
}

static bool note(struct reader *r, enum unused_kind kind, const char *name, const cJSON *at)
{
    return !r->unused || unused_add(r->unused, kind, name, strlen(name), &r->c->doc, at, r->e);
}

/* Puts a string among those that go with the conversation; frees it where that fails. */
static bool own(struct reader *r, char *s)
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

static bool take(struct reader *r, const cJSON *item, struct text *out)
{
    if (!r->c->doc.zeros) {
        *out = (struct text){item->valuestring, strlen(item->valuestring)};
        return true;
    }
    out->s = jsonc_string(&r->c->doc, item, &out->n, r->e);
    return own(r, out->s);
}

/* ---- keys ---- */

static bool is_absent(const struct jsonc *doc, const cJSON *item, enum key_use use)
{
    if (cJSON_IsNull(item)) return true;
    if (use == KEY_TEXT || use == KEY_PLAIN) return false; /* an empty answer is an answer */
    if (cJSON_IsString(item))
        return !item->valuestring[0] && strncmp(jsonc_item_text(doc, item), "\"\"", 2) == 0;
    return (cJSON_IsArray(item) || cJSON_IsObject(item)) && !item->child;
}

/* True and 1 say what is done anyway. */
static bool check_learnt(struct reader *r, const cJSON *item)
{
    if (cJSON_IsTrue(item) || (cJSON_IsNumber(item) && item->valuedouble == 1)) return true;
    return note(r, UNUSED_TURN_KEY, item->string, item) &&
           refuse(r, DROP_UNREAD, item, "\"%s\" is not read: every answer is learnt", item->string);
}

static bool sort_members(struct reader *r, const cJSON *object, const struct key *keys,
                         enum unused_kind kind, struct members *m)
{
    const cJSON *item;

    memset(m, 0, sizeof *m);
    cJSON_ArrayForEach(item, object)
    {
        enum key_use use = key_use(keys, item->string);

        if (is_absent(&r->c->doc, item, use)) continue;
        if (use == KEY_UNKNOWN && !note(r, kind, item->string, item)) return false;
        if (use == KEY_UNREAD)
            return note(r, kind, item->string, item) &&
                   refuse(r, DROP_UNREAD, item, "\"%s\" is not read", item->string);
        if (use == KEY_LEARNT && !check_learnt(r, item)) return false;
        m->of[use][m->of[use][0] != NULL] = item;
    }
    return true;
}

/* The one member of a use, NULL where there is none. */
static bool only(struct reader *r, const struct members *m, enum key_use use, const cJSON **out)
{
    *out = m->of[use][0];
    return !m->of[use][1] || refuse(r, DROP_BROKEN, m->of[use][1], "has both \"%s\" and \"%s\"",
                                    (*out)->string, m->of[use][1]->string);
}

/* ---- pictures ---- */

static bool add_path(struct reader *r, const cJSON *item)
{
    static const char *const outside[] = {"http://", "https://", "data:"};
    struct conversation *c = r->c;
    struct text path;

    if (!take(r, item, &path)) return false;
    if (memchr(path.s, '\0', path.n))
        return refuse(r, DROP_IMAGE, item, "a zero character in a picture's path");
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (strncasecmp(path.s, outside[i], strlen(outside[i])) == 0)
            return refuse(r, DROP_IMAGE, item,
                          "\"%.60s\" is no file: pictures are read from files alone", path.s);
    if (strncmp(path.s, "file://", 7) == 0) path.s += 7;
    if (!mem_grow(&c->images, &c->cap_images, c->n_images + 1, sizeof *c->images, r->e))
        return false;
    c->images[c->n_images++] = path.s;
    return true;
}

/* A path, or an object that has one in it. */
static bool add_picture(struct reader *r, const char *key, const cJSON *item)
{
    const cJSON *outer = item;
    struct members m;

    while (cJSON_IsObject(item)) {
        if (!sort_members(r, item, picture_keys, UNUSED_PART_KEY, &m) ||
            !only(r, &m, KEY_PICTURES, &item))
            return false;
    }
    return cJSON_IsString(item)
               ? add_path(r, item)
               : refuse(r, DROP_BROKEN, outer, "\"%s\" must be a path or a list of paths", key);
}

static bool add_pictures(struct reader *r, const cJSON *from)
{
    const cJSON *item;

    if (!cJSON_IsArray(from)) return add_picture(r, from->string, from);
    cJSON_ArrayForEach(item, from)
    {
        if (!add_picture(r, from->string, item)) return false;
    }
    return true;
}

/* The pictures from `before` on say again what those before them say, or there are none of one. */
static bool agree(struct reader *r, size_t before, const cJSON *item)
{
    struct conversation *c = r->c;
    size_t n = c->n_images - before;
    bool same = n == before;

    if (before == 0 || n == 0) return true;
    for (size_t i = 0; i < n && same; i++)
        same = strcmp(c->images[i], c->images[before + i]) == 0;
    c->n_images = before;
    return same || refuse(r, DROP_MISMATCH, item,
                          "names other pictures than the sample does in another place");
}

/* ---- texts ---- */

/* Marks of what is not read. */
static bool check_marks(struct reader *r, const struct text *t, const cJSON *at)
{
    const char *end = t->s + t->n, *own_mark = r->from->image_mark;

    for (const char *p = t->s; (p = memchr(p, '<', (size_t)(end - p))) != NULL; p++) {
        for (const char *const *mark = unread_marks; *mark; mark++) {
            size_t n = strlen(*mark);
            if ((size_t)(end - p) < n || memcmp(p, *mark, n) != 0) continue;
            if (own_mark && strcmp(*mark, own_mark) == 0) continue;
            return note(r, UNUSED_MARK, *mark, at) &&
                   refuse(r, DROP_UNREAD, at, "the mark \"%s\" is not read", *mark);
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

    if (!sort_members(r, part, part_keys, UNUSED_PART_KEY, &m) || !only(r, &m, KEY_TYPE, &type) ||
        !only(r, &m, KEY_TEXT, &text) || !only(r, &m, KEY_PICTURES, &picture))
        return false;
    if (!cJSON_IsString(type))
        return refuse(r, DROP_BROKEN, part, "a part of a turn needs a \"type\"");
    if (!take(r, type, &word)) return false;
    if (is_word(&word, "text")) {
        if (!cJSON_IsString(text)) return refuse(r, DROP_BROKEN, part, "\"text\" is missing");
        if (!take(r, text, &more)) return false;
    } else if (is_word(&word, "image") || is_word(&word, "image_url")) {
        if (picture && !add_picture(r, picture->string, picture)) return false;
    } else {
        return note(r, UNUSED_PART, word.s, type) &&
               refuse(r, DROP_UNREAD, type, "a part of type \"%.40s\" is not read", word.s);
    }
    if (!mem_grow(&to->s, cap, to->n + more.n + 1, 1, r->e)) return false;
    memcpy(to->s + to->n, more.s, more.n);
    to->n += more.n;
    to->s[to->n] = '\0';
    return true;
}

/* A turn's text: a string, or its parts put together. */
static bool read_content(struct reader *r, const cJSON *content, struct text *out)
{
    const cJSON *part;
    size_t cap = 0;
    bool ok = true;

    if (cJSON_IsString(content)) return take(r, content, out);
    *out = (struct text){mem_strdup("", r->e), 0};
    cJSON_ArrayForEach(part, content)
    {
        ok = ok && add_part(r, part, out, &cap);
    }
    return own(r, out->s) && ok;
}

static bool find_speaker(struct reader *r, const cJSON *item, enum role *role)
{
    const struct speaker *s = speakers;
    char known[256] = "";
    struct text name;

    if (!take(r, item, &name)) return false;
    while (s->name && !is_word(&name, s->name))
        s++;
    *role = s->role;
    if (s->name && !s->unread) return true;
    if (!note(r, UNUSED_ROLE, name.s, item)) return false;
    if (s->name)
        return refuse(r, DROP_UNREAD, item, "\"%s\" is \"%s\": calls of tools are not read",
                      item->string, s->name);
    for (s = speakers; s->name; s++)
        if (!s->unread)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                     known[0] ? ", " : "", s->name);
    return refuse(r, DROP_BROKEN, item, "\"%s\" is \"%.40s\"; known are %s", item->string, name.s,
                  known);
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

/* system: the sample has the key "system", which is the first message then. */
static bool add_turn(struct reader *r, const cJSON *turn, bool system)
{
    const cJSON *from, *content;
    struct members m;
    struct text text;
    enum role role;

    if (!sort_members(r, turn, turn_keys, UNUSED_TURN_KEY, &m) || !only(r, &m, KEY_ROLE, &from) ||
        !only(r, &m, KEY_TEXT, &content))
        return false;
    if (!cJSON_IsString(from))
        return refuse(r, DROP_BROKEN, turn, "a turn needs \"from\" (or \"role\"), a string");
    if (!find_speaker(r, from, &role)) return false;
    if (!cJSON_IsString(content) && !cJSON_IsArray(content))
        return refuse(r, DROP_BROKEN, turn, "a turn needs \"value\" (or \"content\"), a string");
    for (int i = 0; i < 2; i++)
        if (m.of[KEY_PICTURES][i] && !add_pictures(r, m.of[KEY_PICTURES][i])) return false;
    if (!read_content(r, content, &text)) return false;
    if (system && role == ROLE_SYSTEM && r->c->n == 1) {
        const struct message *first = &r->c->messages[0];
        return (text.n == first->len && memcmp(text.s, first->text, text.n) == 0) ||
               refuse(r, DROP_BROKEN, content, "differs from the sample's \"system\"");
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
        return refuse(r, DROP_BROKEN, turns, "\"%s\" is not a list of turns", turns->string);
    if (system && !cJSON_IsString(system))
        return refuse(r, DROP_BROKEN, system, "\"system\" must be a string");
    if (system && (!take(r, system, &text) || !add_message(r, ROLE_SYSTEM, &text, system)))
        return false;
    cJSON_ArrayForEach(turn, turns)
    {
        if (!add_turn(r, turn, system != NULL)) return false;
    }
    return agree(r, before, turns);
}

/* Neither turns nor text: what there is instead says mostly which format it is. */
static bool refuse_shape(struct reader *r, const cJSON *sample)
{
    char keys[160] = "";
    const cJSON *item;
    int n = 0;

    if (!cJSON_IsObject(sample)) return refuse(r, DROP_BROKEN, sample, "a sample is an object");
    cJSON_ArrayForEach(item, sample)
    {
        if (n++ < 4)
            snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s\"%.30s\"",
                     keys[0] ? ", " : "; it has ", item->string);
    }
    return refuse(r, DROP_BROKEN, sample,
                  "no turns under \"conversations\" or \"messages\", and no \"text\"%s%s", keys,
                  n > 4 ? ", ..." : "");
}

/* A number is an id by its spelling: as a double, 12345678901234567890 would be another one. */
static bool read_id(struct reader *r, const cJSON *id)
{
    const char *spelling;

    if (cJSON_IsString(id)) return take(r, id, &r->c->id);
    if (!cJSON_IsNumber(id)) return note(r, UNUSED_SAMPLE_KEY, id->string, id);
    spelling = jsonc_item_text(&r->c->doc, id);
    r->c->id.n = strspn(spelling, "+-.0123456789eE");
    r->c->id.s = mem_strndup(spelling, r->c->id.n, r->e);
    return own(r, r->c->id.s);
}

static bool read_sample(struct reader *r)
{
    const cJSON *sample = r->c->doc.root, *turns, *plain;
    struct members m;

    if (!cJSON_IsObject(sample)) return refuse_shape(r, sample);
    if (!sort_members(r, sample, sample_keys, UNUSED_SAMPLE_KEY, &m) ||
        !only(r, &m, KEY_TURNS, &turns))
        return false;
    plain = m.of[KEY_PLAIN][0];
    if (m.of[KEY_ID][0] && !read_id(r, m.of[KEY_ID][0])) return false;
    for (int i = 0; i < 2; i++) {
        const cJSON *pictures = m.of[KEY_PICTURES][i];
        size_t before = r->c->n_images;
        if (pictures && (!add_pictures(r, pictures) || !agree(r, before, pictures))) return false;
    }
    if (turns)
        return (!plain || note(r, UNUSED_SAMPLE_KEY, plain->string, plain)) &&
               read_turns(r, turns, m.of[KEY_SYSTEM][0]);
    if (m.of[KEY_SYSTEM][0] && !note(r, UNUSED_SAMPLE_KEY, "system", m.of[KEY_SYSTEM][0]))
        return false;
    return cJSON_IsString(plain) ? take(r, plain, &r->c->plain) : refuse_shape(r, sample);
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
    *reason = ok || !mem_is_out(e) ? r.reason : DROPS;
    if (!ok) conversation_free(c);
    return ok;
}

void conversation_free(struct conversation *c)
{
    for (size_t i = 0; i < c->n_strings; i++)
        free(c->strings[i]);
    free(c->strings);
    free(c->messages);
    free(c->images);
    jsonc_close(&c->doc);
    memset(c, 0, sizeof *c);
}
