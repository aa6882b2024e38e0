/* unusual.c - see unusual.h. */
#include "data/unusual.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
    [UNUSUAL_ANSWER_FIRST] = "begin with an answer",
    [UNUSUAL_TWO_QUESTIONS] = "have two questions in a row",
    [UNUSUAL_TWO_ANSWERS] = "have two answers in a row",
    [UNUSUAL_LAST_QUESTION] = "end with a question, which nothing is learnt from",
    [UNUSUAL_NO_TEXT] = "have an answer without a text, and teach to be silent",
    [UNUSUAL_PICTURE] = "have a picture inside an answer"};

static bool is_blank(const struct message *m)
{
    for (size_t i = 0; i < m->len; i++)
        if (!memchr(" \t\r\n", m->text[i], 4)) return false;
    return true;
}

/* Bits of the kinds that message i is of. */
static unsigned look(const struct message *m, size_t n, size_t i)
{
    const bool answers = m[i].role == ROLE_ASSISTANT,
               first = i == 0 || m[i - 1].role == ROLE_SYSTEM;
    unsigned is = 0;

    if (m[i].role == ROLE_SYSTEM) return 0;
    if (first && answers) is |= 1u << UNUSUAL_ANSWER_FIRST;
    if (!first && m[i - 1].role == m[i].role)
        is |= 1u << (answers ? UNUSUAL_TWO_ANSWERS : UNUSUAL_TWO_QUESTIONS);
    if (!answers) return i + 1 < n ? is : is | 1u << UNUSUAL_LAST_QUESTION;
    if (is_blank(&m[i])) is |= 1u << UNUSUAL_NO_TEXT;
    if (memmem(m[i].text, m[i].len, IMAGE_MARK, strlen(IMAGE_MARK))) is |= 1u << UNUSUAL_PICTURE;
    return is;
}

unsigned unusual_kinds(const struct message *m, size_t n)
{
    unsigned is = 0;

    for (size_t i = 0; i < n; i++)
        is |= look(m, n, i);
    return is;
}

bool unusual_add(struct unusual *u, unsigned kinds, const char *where, struct err *e)
{
    for (int k = 0; k < UNUSUAL_KINDS; k++) {
        if (!(kinds & 1u << k)) continue;
        if (u->samples[k]++ == 0 && !(u->where[k] = mem_strdup(where, e))) return false;
    }
    return true;
}

void unusual_free(struct unusual *u)
{
    for (int k = 0; k < UNUSUAL_KINDS; k++)
        free(u->where[k]);
    memset(u, 0, sizeof *u);
}

void unusual_log(const struct unusual *u, const char *what)
{
    for (int k = 0; k < UNUSUAL_KINDS; k++)
        if (u->samples[k])
            log_line("%s: samples that %s: %lld; the first: %s", what, names[k],
                     (long long)u->samples[k], u->where[k]);
}
