/* jsonc_text.c - what cJSON's strings and numbers lose: zero characters, and the last bit of a
 * double. */
#include "base/json/jsonc.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Four hex digits, already validated by the scan. */
static uint32_t hex4(const char *s)
{
    char digits[5] = {s[0], s[1], s[2], s[3], '\0'};

    return (uint32_t)strtoul(digits, NULL, 16);
}

static size_t put_utf8(char *out, uint32_t c)
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

    if (n == 1) {
        out[0] = (char)c;
        return 1;
    }
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00u >> n) | c); /* as many leading ones as there are bytes */
    return n;
}

/* Decodes the escape at s, after its backslash; *used is its length. The scan has made sure that
 * surrogates come in pairs. */
static size_t put_escape(char *out, const char *s, size_t *used)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    uint32_t code;

    *used = 1;
    if (*s != 'u') {
        out[0] = values[strchr(names, *s) - names];
        return 1;
    }
    code = hex4(s + 1);
    *used = 5;
    if (code >= 0xd800 && code < 0xdc00) {
        code = 0x10000 + ((code - 0xd800) << 10) + (hex4(s + 7) - 0xdc00);
        *used = 11;
    }
    return put_utf8(out, code);
}

char *jsonc_string(const struct jsonc *doc, const cJSON *item, size_t *len, struct err *e)
{
    const char *s = jsonc_item_text(doc, item);
    size_t n = 0, used;
    char *out;

    CHECK(s && *s == '"');
    s++;
    while (s[n] != '"')
        n += s[n] == '\\' ? 2 : 1;
    out = malloc(n + 1); /* no escape is shorter than what it stands for */
    if (!out) {
        err_set(e, "out of memory: %zu bytes", n + 1);
        return NULL;
    }
    for (*len = 0; *s != '"'; s += used) {
        if (*s == '\\') {
            *len += put_escape(out + *len, s + 1, &used);
            used++;
        } else {
            out[(*len)++] = *s;
            used = 1;
        }
    }
    out[*len] = '\0';
    return out;
}

cJSON *jsonc_new_string(const char *s, size_t n)
{
    static const char names[32] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    char *copy = malloc(6 * n + 3), *to = copy; /* \u0000 is the longest escape */
    cJSON *item;

    if (!copy) return NULL;
    *to++ = '"';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 && names[c]) {
            *to++ = '\\';
            *to++ = names[c];
        } else if (c < 0x20) {
            to += sprintf(to, "\\u%04x", c);
        } else {
            if (c == '"' || c == '\\') *to++ = '\\';
            *to++ = (char)c;
        }
    }
    memcpy(to, "\"", 2);
    item = cJSON_CreateRaw(copy);
    free(copy);
    return item;
}

/* Length of the number or string at s, including quotes. */
static size_t spelt_len(const char *s)
{
    size_t n = 1;

    if (*s != '"') return strspn(s, "+-.0123456789eE");
    while (s[n] != '"')
        n += s[n] == '\\' ? 2 : 1;
    return n + 1;
}

static bool keep_spelling(const struct jsonc *doc, cJSON *first)
{
    for (cJSON *item = first; item; item = item->next) {
        bool number = cJSON_IsNumber(item), string = doc->zeros && cJSON_IsString(item);
        const char *s = number || string ? jsonc_item_text(doc, item) : "";
        size_t n = spelt_len(s);

        if (number || (string && memmem(s, n, "\\u0000", 6))) {
            char *copy = cJSON_malloc(n + 1);
            if (!copy) return false;
            memcpy(copy, s, n);
            copy[n] = '\0';
            cJSON_free(item->valuestring);
            item->valuestring = copy;
            item->type = cJSON_Raw;
        }
        if (!keep_spelling(doc, item->child)) return false;
    }
    return true;
}

bool jsonc_keep_spelling(struct jsonc *doc, struct err *e)
{
    return keep_spelling(doc, doc->root) || err_set(e, "out of memory for JSON to be written");
}

void jsonc_number(char out[JSONC_NUMBER], double v)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, JSONC_NUMBER, "%.*g", digits, v);
        if (strtod(out, NULL) == v) return;
    }
}

/* Turns numbers into raw text, which cJSON prints as it is. */
static bool exact_numbers(cJSON *first)
{
    for (cJSON *item = first; item; item = item->next) {
        if (cJSON_IsNumber(item) && item->valuedouble - item->valuedouble == 0) {
            char text[JSONC_NUMBER + 2];
            jsonc_number(text, item->valuedouble);
            if ((item->type & JSONC_FRACTION) && !strpbrk(text, ".e")) strcat(text, ".0");
            item->valuestring = cJSON_malloc(strlen(text) + 1);
            if (!item->valuestring) return false;
            memcpy(item->valuestring, text, strlen(text) + 1);
            item->type = cJSON_Raw;
        }
        if (!exact_numbers(item->child)) return false;
    }
    return true;
}

char *jsonc_print(const cJSON *root, bool pretty, struct err *e)
{
    cJSON *copy = cJSON_Duplicate(root, true);
    char *text = NULL;

    if (copy && exact_numbers(copy))
        text = pretty ? cJSON_Print(copy) : cJSON_PrintUnformatted(copy);
    cJSON_Delete(copy);
    if (!text) err_set(e, "out of memory for JSON to be written");
    return text;
}
