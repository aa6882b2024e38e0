/* partition.c - see partition.h. A node has a line for each of its partitions:
 *     local*|24105|2|infinite|up      (the star: the default) */
#include "train/submit/partition.h"
#include "train/submit/command.h"
#include "train/submit/walltime.h"

#include <stdio.h>
#include <string.h>

struct line {
    char name[128], limit[40], up[16];
    long long memory, cpus;
    bool is_default;
};

/* A line; *at goes on to the next. */
static bool read_line(const char **at, struct line *l)
{
    const char *end = strchr(*at, '\n');
    char text[400];
    size_t n = end ? (size_t)(end - *at) : strlen(*at);

    snprintf(text, sizeof text, "%.*s", (int)n, *at);
    *at += n + (end != NULL);
    *l = (struct line){0};
    if (sscanf(text, "%127[^|]|%lld|%lld|%39[^|]|%15s", l->name, &l->memory, &l->cpus, l->limit,
               l->up) != 5)
        return false;
    n = strlen(l->name);
    l->is_default = n && l->name[n - 1] == '*';
    if (l->is_default) l->name[n - 1] = '\0';
    return true;
}

static void add_node(struct partition *p, const struct line *l)
{
    snprintf(p->name, sizeof p->name, "%s", l->name);
    p->nodes++;
    if (l->memory > p->memory) p->memory = l->memory;
    if (l->cpus > p->cpus) p->cpus = l->cpus;
    if (!walltime_parse(l->limit, &p->seconds)) p->seconds = 0; /* "infinite" */
}

/* Adds a name to the list of those that there are. */
static void add_name(char *names, size_t size, const char *name)
{
    const size_t used = strlen(names), n = strlen(name);
    const char *found = strstr(names, name);

    if (found && (found == names || found[-1] == ' ') && (!found[n] || found[n] == ',')) return;
    snprintf(names + used, size - used, "%s%s", used ? ", " : "", name);
}

/* One partition; name NULL: the default. */
static bool parse_one(const char *text, const char *name, struct partition *p, struct err *e)
{
    char names[600] = "", down[16] = "";
    struct line l;

    *p = (struct partition){0};
    while (*text) {
        if (!read_line(&text, &l)) continue;
        add_name(names, sizeof names, l.name);
        if (name ? strcmp(name, l.name) != 0 : !l.is_default) continue;
        if (strcmp(l.up, "up") != 0) snprintf(down, sizeof down, "%s", l.up);
        add_node(p, &l);
    }
    if (p->nodes && *down)
        return err_set(e, "slurm.partition: %s is %s: its administrator says when it takes jobs",
                       p->name, down);
    if (p->nodes) return true;
    if (!*names) return err_set(e, "sinfo: the cluster has no partition with nodes");
    if (!name)
        return err_set(e, "slurm.partition: the cluster has no default: give one of %s", names);
    return err_set(e, "slurm.partition: there is no \"%s\": one of %s", name, names);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* What fits into both. */
static void add_partition(struct partition *p, const struct partition *other)
{
    p->nodes = least(p->nodes, other->nodes);
    p->cpus = least(p->cpus, other->cpus);
    p->memory = least(p->memory, other->memory);
    if (!p->seconds || (other->seconds && other->seconds < p->seconds)) p->seconds = other->seconds;
}

bool partition_parse(const char *text, const char *name, struct partition *p, struct err *e)
{
    struct partition one;
    char part[sizeof one.name];

    if (!name) return parse_one(text, NULL, p, e);
    for (const char *at = name; at; at = strchr(at, ',')) {
        at += *at == ',' && at != name;
        snprintf(part, sizeof part, "%.*s", (int)strcspn(at, ","), at);
        if (!parse_one(text, part, &one, e)) return false;
        if (at == name)
            *p = one;
        else
            add_partition(p, &one);
    }
    snprintf(p->name, sizeof p->name, "%s", name);
    return true;
}

char *partition_ask(struct err *e)
{
    static const char *const sinfo[] = {"sinfo", "-h", "-N", "-o", "%P|%m|%c|%l|%a", NULL};
    struct command_output out;

    return command_must(sinfo, &out, e) ? out.text : NULL; /* handed on */
}
