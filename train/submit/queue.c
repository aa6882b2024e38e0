/* queue.c - see queue.h. */
#include "train/submit/queue.h"
#include "base/mem.h"
#include "train/submit/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void queue_close(struct queue *q)
{
    free(q->list);
    *q = (struct queue){0};
}

bool queue_parse(struct queue *q, const char *text, struct err *e)
{
    for (const char *line = text; *line;) {
        const size_t n = strcspn(line, "\n");
        struct queued one = {.element = -1};
        char copy[300], element[32] = "";
        snprintf(copy, sizeof copy, "%.*s", (int)n, line);
        line += n + (line[n] == '\n');
        if (sscanf(copy, "%lld|%31[^|]|%31[^|]|%31[^|]|%63[^\n]", &one.id, element, one.state,
                   one.left, one.why) < 4)
            continue;
        if (*element >= '0' && *element <= '9') one.element = strtoll(element, NULL, 10);
        if (!mem_grow(&q->list, &q->cap, q->n + 1, sizeof one, e)) return false;
        q->list[q->n++] = one;
    }
    return true;
}

bool queue_open(struct queue *q, struct err *e)
{
    char user[24];
    const char *const squeue[] = {"squeue", "-h", "-r", "-u", user, "-o", "%F|%K|%T|%L|%r", NULL};
    struct command_output out;
    bool ok;

    *q = (struct queue){0};
    snprintf(user, sizeof user, "%lu", (unsigned long)getuid());
    ok = command_must(squeue, &out, e) && queue_parse(q, out.text, e);
    command_free(&out);
    return ok;
}

const struct queued *queue_find(const struct queue *q, long long id, int64_t element)
{
    for (size_t i = 0; i < q->n; i++)
        if (q->list[i].id == id && (element < 0 || q->list[i].element == element))
            return &q->list[i];
    return NULL;
}

/* The word behind `key` in the output of scontrol show job -o or, of sacct, its first word. */
static void take_word(char state[32], const char *text, const char *key)
{
    const char *at = strstr(text, key);

    if (at) sscanf(at + strlen(key), "%31[A-Z_]", state);
}

const char *queue_ended(char state[32], long long id, int64_t element)
{
    char name[64];
    const char *const sacct[] = {"sacct", "-n", "-X", "-P", "-o", "State", "-j", name, NULL};
    const char *const scontrol[] = {"scontrol", "-o", "show", "job", name, NULL};
    struct command_output out;
    struct err unknown; /* that they do not know it is an answer */

    *state = '\0';
    if (element < 0)
        snprintf(name, sizeof name, "%lld", id);
    else
        snprintf(name, sizeof name, "%lld_%lld", id, (long long)element);
    if (command_there("sacct") && command_must(sacct, &out, &unknown)) {
        take_word(state, out.text, "");
        command_free(&out);
    }
    if (!*state && command_there("scontrol") && command_must(scontrol, &out, &unknown)) {
        take_word(state, out.text, "JobState=");
        command_free(&out);
    }
    return state;
}
