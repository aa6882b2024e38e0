/* options.c - see options.h. */
#include "serve/options.h"
#include "base/mem.h"
#include "base/version.h"
#include "talk/number.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "mha2mla-serve MODEL_DIR [options]\n"
    "Answers questions over HTTP, as OpenAI's /v1/chat/completions does: with a vision-language "
    "or\n"
    "text model of Hugging Face's layout, converted or not. At / is a page to try it with.\n"
    "\n"
    "  --port N               0: one that the system chooses, which is printed (8080)\n"
    "  --host ADDRESS         where to listen, instead of 127.0.0.1; one that others reach needs a "
    "key\n"
    "  --api-key-file FILE    a file with the key that requests must have\n"
    "  --name NAME            another name by which clients call it (Host header); may be "
    "repeated\n"
    "  --cors ORIGIN          pages of this origin may read replies\n"
    "  --parallel N           so many answers are made at a time, up to 8 (8)\n"
    "  --queue N              so many requests may wait for that; more are refused (8)\n"
    "  --max-tokens N         at most so many tokens of an answer, unless a request says (512)\n"
    "  --cache KIND           what the KV cache holds values in: f32 (the default), bf16, q8, q4, "
    "q2,\n"
    "                         or rotated keys + latents apart, as in q8+q4 or q8+q4+rotate\n"
    "  --template NAME        chat template, as data.template; by default the model's family's\n"
    "  --idle SECONDS         a client that sends nothing for so long within a request is left "
    "(30)\n"
    "  --grace SECONDS        what is being answered may take so long once it is to end (30)\n"
    "  --threads N            0, the default: all the cores this process may use\n"
    "  --memory-limit GIB     as run.memory_limit; 0, the default: the machine's memory\n"
    "  --version, --help\n";

/* Options that are numbers. */
enum { PORT, PARALLEL, QUEUE, MAX_TOKENS, IDLE, GRACE, THREADS, MEMORY, NUMBERS };
static const struct number numbers[NUMBERS] = {
    [PORT] = {"--port", 8080, 0, 65535, true, false},
    [PARALLEL] = {"--parallel", DESK_SEATS, 1, DESK_SEATS, true, false},
    [QUEUE] = {"--queue", 8, 1, DESK_QUEUE, true, false},
    [MAX_TOKENS] = {"--max-tokens", 512, 1, 1 << 20, true, false},
    [IDLE] = {"--idle", 30, 1, 3600, true, false},
    [GRACE] = {"--grace", 30, 0, 86400, false, false},
    [THREADS] = {"--threads", 0, 0, 1024, true, false},
    [MEMORY] = {"--memory-limit", 0, 0, 1 << 20, false, false},
};

/* Options that are texts. */
enum { HOST = NUMBERS, KEY_FILE, NAME, CORS, TEMPLATE, CACHE, SHOW_VERSION, HELP };
static const struct option known[] = {{"port", required_argument, NULL, PORT},
                                      {"parallel", required_argument, NULL, PARALLEL},
                                      {"queue", required_argument, NULL, QUEUE},
                                      {"max-tokens", required_argument, NULL, MAX_TOKENS},
                                      {"idle", required_argument, NULL, IDLE},
                                      {"grace", required_argument, NULL, GRACE},
                                      {"threads", required_argument, NULL, THREADS},
                                      {"memory-limit", required_argument, NULL, MEMORY},
                                      {"host", required_argument, NULL, HOST},
                                      {"api-key-file", required_argument, NULL, KEY_FILE},
                                      {"name", required_argument, NULL, NAME},
                                      {"cors", required_argument, NULL, CORS},
                                      {"cache", required_argument, NULL, CACHE},
                                      {"template", required_argument, NULL, TEMPLATE},
                                      {"version", no_argument, NULL, SHOW_VERSION},
                                      {"help", no_argument, NULL, HELP},
                                      {NULL, 0, NULL, 0}};

/* What is being read. */
struct parsing {
    struct options *o;
    double value[NUMBERS];
    bool given[NUMBERS];
};

static bool take_text(const char **to, const char *name, struct err *e)
{
    if (*to) return err_set(e, "%s is given twice", name);
    *to = optarg;
    return true;
}

static bool take_full(const char **to, const char *name, struct err *e)
{
    return take_text(to, name, e) && (*optarg || err_set(e, "%s: is empty", name));
}

static bool take_option(struct parsing *p, int c, char **argv, struct err *e)
{
    struct options *o = p->o;

    if (c >= 0 && c < NUMBERS)
        return number_read(&numbers[c], optarg, &p->given[c], &p->value[c], e);
    switch (c) {
    case HOST:
        return take_full(&o->host, "--host", e);
    case KEY_FILE:
        return take_full(&o->key_file, "--api-key-file", e);
    case CORS:
        return take_full(&o->cors, "--cors", e);
    case TEMPLATE:
        return take_text(&o->talker.chat_template, "--template", e);
    case CACHE:
        return take_text(&o->talker.cache, "--cache", e) && talker_check_cache(o->talker.cache, e);
    case NAME:
        o->names[o->n_names++] = optarg;
        return *optarg || err_set(e, "--name: is empty"); /* at most argc of them */
    case SHOW_VERSION:
        puts("mha2mla-serve " VERSION);
        return false;
    case HELP:
        fputs(usage, stdout);
        return false;
    default:
        if (c == ':' && optopt == CACHE) return talker_check_cache("", e);
        return option_refuse(&(struct refused){argv[optind - 1], c, optopt, numbers, NUMBERS}, e);
    }
}

/* An address at which only this machine's programs reach it. */
static bool is_own(const char *host)
{
    struct in_addr at; /* numbers alone: a name may begin with them, and be anywhere */

    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
           (inet_pton(AF_INET, host, &at) == 1 && ntohl(at.s_addr) >> 24 == 127);
}

/* As browsers write it in an Origin header: scheme, host and port, and nothing behind them. */
static bool is_origin(const char *text)
{
    const size_t scheme = strncmp(text, "http://", 7) == 0 ? 7 : 8;

    return (scheme == 7 || strncmp(text, "https://", 8) == 0) && text[scheme] &&
           !strpbrk(text + scheme, "/?#@ \t");
}

static bool check(const struct options *o, struct err *e)
{
    if (o->host && *o->host == '[')
        return err_set(e, "--host %s: an IPv6 address is written without brackets, such as ::1",
                       o->host);
    if (o->host && !is_own(o->host) && !o->key_file)
        return err_set(e, "--host %s: others can reach it there: --api-key-file is needed too",
                       o->host);
    if (o->cors && !is_origin(o->cors))
        return err_set(e,
                       "--cors: an origin is needed, such as https://a.example, without a slash at "
                       "its end; found \"%.60s\"",
                       o->cors);
    return true;
}

static void fill(const struct parsing *p)
{
    struct options *o = p->o;

    o->port = (int64_t)p->value[PORT];
    o->queue = (int64_t)p->value[QUEUE];
    o->idle = (unsigned)p->value[IDLE];
    o->grace = p->value[GRACE];
    o->talker.max_new = (int64_t)p->value[MAX_TOKENS];
    o->talker.threads = (int64_t)p->value[THREADS];
    o->talker.memory_limit = p->value[MEMORY];
    o->talker.seats = (int64_t)p->value[PARALLEL];
    o->talker.part = DESK_PART;
    o->talker.seed = 1;
    o->talker.sampling = (struct sampling){.penalty = 1, .top_p = 1};
    o->names[o->n_names] = o->host; /* the given name, too */
    o->n_names += o->host != NULL;
}

bool options_parse(struct options *o, int argc, char **argv, struct err *e)
{
    struct parsing p = {.o = o};
    int c;

    *o = (struct options){0};
    for (int i = 0; i < NUMBERS; i++)
        p.value[i] = numbers[i].def;
    o->names = mem_new((size_t)argc + 1, sizeof *o->names, "options", e);
    if (!o->names) return false;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":", known, NULL)) != -1)
        if (!take_option(&p, c, argv, e)) return false;
    if (optind == argc) return err_set(e, "MODEL_DIR is missing; see --help");
    if (optind + 1 < argc)
        return err_set(e, "%s: not understood; one model is served, see --help", argv[optind + 1]);
    o->model = argv[optind];
    fill(&p);
    return check(o, e);
}

void options_free(struct options *o)
{
    free(o->names);
}
