/* import_fields.c - what the records of several benchmarks have in common. */
#include "base/mem.h"
#include "datasets/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

const cJSON *field(const struct record *r, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(r->o, name);
}

const char *field_picture(struct import *im, const struct record *r, const char *names,
                          const char *end)
{
    const cJSON *list = field(r, "image");
    const char *name = cJSON_IsArray(list) && cJSON_IsString(list->child)
                           ? list->child->valuestring
                           : import_member(im, r, names);

    return name && !list && *end ? import_text(im, "%s%s", name, end) : name;
}

const char *text_stripped(struct import *im, const char *s)
{
    const struct text t = text_trimmed((struct text){(char *)(uintptr_t)s, s ? strlen(s) : 0});

    return s ? import_text(im, "%.*s", (int)t.n, t.s) : NULL;
}

/* The code point behind a backslash; *s goes on behind it. -1: it is none. */
static utf8proc_int32_t escaped(const char **s)
{
    static const char letters[] = "ntrbf\\'\"/", values[] = "\n\t\r\b\f\\'\"/";
    static const struct {
        char letter;
        int digits;
    } hex[] = {{'x', 2}, {'u', 4}, {'U', 8}};
    const char *at = **s ? strchr(letters, **s) : NULL;
    char digits[9] = "";

    if (at) {
        ++*s;
        return values[at - letters];
    }
    for (int i = 0; i < 3; i++) {
        if (**s != hex[i].letter) continue;
        snprintf(digits, (size_t)hex[i].digits + 1, "%s", *s + 1);
        if ((int)strspn(digits, "0123456789abcdefABCDEF") != hex[i].digits) return -1;
        *s += 1 + hex[i].digits;
        return (utf8proc_int32_t)strtoul(digits, NULL, 16);
    }
    return -1;
}

/* A string in quotes of either kind, to `to`, which has room for all of it; *s
 * goes on behind it. */
static bool quoted(const char **s, char *to)
{
    const char quote = *(*s)++;

    while (**s && **s != quote) {
        utf8proc_int32_t c;
        if (**s != '\\') {
            *to++ = *(*s)++;
            continue;
        }
        ++*s;
        c = escaped(s);
        if (c <= 0 || !utf8proc_codepoint_valid(c)) return false;
        to += utf8proc_encode_char(c, (utf8proc_uint8_t *)to);
    }
    *to = '\0';
    return *(*s)++ == quote;
}

/* ['it is', "it's"]: a list of strings as Python or JSON spells it. */
static bool spelled_choices(struct import *im, const char *s, char *room, struct question *q)
{
    static const char blank[] = " \t\r\n";
    const char *at = s + strspn(s, blank);

    if (*at++ != '[') return false;
    at += strspn(at, blank);
    while (*at && *at != ']') {
        if (!strchr("'\"", *at) || q->choices == IMPORT_CHOICES || !quoted(&at, room)) return false;
        q->choice[q->choices++] = import_text(im, "%s", room);
        at += strspn(at, blank);
        if (*at == ',')
            at++;
        else if (*at != ']')
            return false;
        at += strspn(at, blank);
    }
    return *at == ']' && !at[1 + strspn(at + 1, blank)];
}

bool field_choices(struct import *im, const struct record *r, const cJSON *list, struct question *q)
{
    const cJSON *item;

    if (cJSON_IsString(list)) {
        char *room = mem_new(strlen(list->valuestring) + 1, 1, "options", im->e);
        const bool ok = room && spelled_choices(im, list->valuestring, room, q);
        free(room);
        return ok || im->e->machine ||
               import_fail(im, r, "the options are \"%.60s\": a list of up to %d strings is needed",
                           list->valuestring, IMPORT_CHOICES);
    }
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > IMPORT_CHOICES)
        return import_fail(im, r, "the options must be a list of up to %d", IMPORT_CHOICES);
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item)) return import_fail(im, r, "an option is no string");
        q->choice[q->choices++] = item->valuestring;
    }
    return true;
}

const char *text_with_choices(struct import *im, const char *question, const struct question *q)
{
    for (int i = 0; question && i < q->choices; i++)
        if (q->choice[i]) question = import_text(im, "%s\n%c. %s", question, 'A' + i, q->choice[i]);
    return question;
}

bool field_number(struct import *im, const struct record *r, const char *names, struct question *q)
{
    const char *number = import_member(im, r, names);
    char *end;
    const long n = number ? strtol(number, &end, 10) : 0;

    if (!number) return !im->e->msg[0];
    if (end == number || *end || n < 0 || n >= q->choices)
        return import_fail(im, r, "the answer is option %.20s, of %d (the first is 0)", number,
                           q->choices);
    q->answer = import_text(im, "%c", 'A' + (int)n);
    return q->answer;
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

const char *text_capitalized(struct import *im, const char *s)
{
    const size_t n = s ? strlen(s) : 0;
    char *to = s ? mem_new(2 * n + 8, 1, "a question", im->e) : NULL;
    const char *out;
    size_t used = 0;

    for (size_t at = 0; to && at < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t len =
            utf8proc_iterate((const utf8proc_uint8_t *)s + at, (utf8proc_ssize_t)(n - at), &c);
        if (len <= 0) break; /* JSON's strings are UTF-8 */
        c = at ? utf8proc_tolower(c) : utf8proc_totitle(c);
        used += (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)to + used);
        at += (size_t)len;
    }
    out = to ? import_text(im, "%s", to) : NULL;
    free(to);
    return out;
}
