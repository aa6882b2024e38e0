/* options.c - see options.h. */
#include "chat/options.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/version.h"
#include "talk/number.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "mha2mla-chat MODEL_DIR [options]\n"
    "Talks to a model: a vision-language or text model of Hugging Face's layout, converted or "
    "not.\n"
    "With -p it answers once; without it, it is a chat, where /help lists the commands.\n"
    "\n"
    "  -p TEXT                the question; - reads it from standard input\n"
    "  --image FILE           a picture that the (first) question is about; may be repeated\n"
    "  --system TEXT          what stands before the conversation, instead of the template's\n"
    "  --template NAME        chat template, as data.template; by default the model's family's\n"
    "  -n N                   at most so many tokens of an answer (512)\n"
    "  --temp T               temperature; 0, the default, takes the likeliest token, as scoring "
    "does\n"
    "  --top-k K              draws from the K likeliest tokens only; 0, the default: from all\n"
    "  --top-p P              draws from the likeliest that together have probability P (1)\n"
    "  --repeat-penalty X     divides logits above 0 of tokens that were there, multiplies others "
    "(1)\n"
    "  --seed N               seeds what is drawn (1)\n"
    "  --stop TEXT            ends an answer before this text; may be repeated\n"
    "  --cache KIND           what the KV cache holds values in: f32 (the default), bf16, q8, q4, "
    "q2,\n"
    "                         or rotated keys + latents apart, as in q8+q4 or q8+q4+rotate\n"
    "  --threads N            0, the default: all the cores this process may use\n"
    "  --memory-limit GIB     as run.memory_limit; 0, the default: the machine's memory\n"
    "  --json                 writes one JSON object an answer, and nothing else\n"
    "  --compare DIR          a second model, such as the original, answers the same\n"
    "  --version, --help\n";

/* Options that are numbers. */
enum { LENGTH, TEMPERATURE, TOP_K, TOP_P, PENALTY, SEED, THREADS, MEMORY, NUMBERS };
static const struct number numbers[NUMBERS] = {
    [LENGTH] = {"-n", 512, 1, 1 << 20, true, false},
    [TEMPERATURE] = {"--temp", 0, 0, 100, false, false},
    [TOP_K] = {"--top-k", 0, 0, 1 << 24, true, true},
    [TOP_P] = {"--top-p", 1, 1e-6, 1, false, true},
    [PENALTY] = {"--repeat-penalty", 1, 0.01, 100, false, false},
    [SEED] = {"--seed", 1, 0, 9007199254740991.0, true, true}, /* every double up to it is exact */
    [THREADS] = {"--threads", 0, 0, 1024, true, false},
    [MEMORY] = {"--memory-limit", 0, 0, 1 << 20, false, false},
};

/* Options that are texts, one or several. */
enum {
    PROMPT = NUMBERS,
    SYSTEM,
    TEMPLATE,
    COMPARE,
    CACHE,
    PICTURE,
    STOP,
    JSON,
    SHOW_VERSION,
    HELP
};
static const struct option known[] = {{"image", required_argument, NULL, PICTURE},
                                      {"system", required_argument, NULL, SYSTEM},
                                      {"template", required_argument, NULL, TEMPLATE},
                                      {"temp", required_argument, NULL, TEMPERATURE},
                                      {"top-k", required_argument, NULL, TOP_K},
                                      {"top-p", required_argument, NULL, TOP_P},
                                      {"repeat-penalty", required_argument, NULL, PENALTY},
                                      {"seed", required_argument, NULL, SEED},
                                      {"stop", required_argument, NULL, STOP},
                                      {"threads", required_argument, NULL, THREADS},
                                      {"memory-limit", required_argument, NULL, MEMORY},
                                      {"json", no_argument, NULL, JSON},
                                      {"compare", required_argument, NULL, COMPARE},
                                      {"cache", required_argument, NULL, CACHE},
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

static bool take_option(struct parsing *p, int c, char **argv, struct err *e)
{
    struct options *o = p->o;

    if (c == 'n') c = LENGTH;
    if (c == 'p') c = PROMPT;
    if (c >= 0 && c < NUMBERS)
        return number_read(&numbers[c], optarg, &p->given[c], &p->value[c], e);
    switch (c) {
    case PROMPT:
        return take_text(&o->prompt, "-p", e);
    case SYSTEM:
        return take_text(&o->talker.system, "--system", e);
    case TEMPLATE:
        return take_text(&o->talker.chat_template, "--template", e);
    case COMPARE:
        return take_text(&o->compare, "--compare", e);
    case CACHE:
        return take_text(&o->talker.cache, "--cache", e) && talker_check_cache(o->talker.cache, e);
    case PICTURE:
        o->images[o->n_images++] = optarg;
        return true; /* at most argc of them */
    case STOP:
        o->stops[o->n_stops++] = optarg;
        return *optarg || err_set(e, "--stop: is empty");
    case JSON:
        o->json = true;
        return true;
    case SHOW_VERSION:
        puts("mha2mla-chat " VERSION);
        return false;
    case HELP:
        fputs(usage, stdout);
        return false;
    default:
        if (c == ':' && optopt == CACHE) return talker_check_cache("", e);
        if (optopt == 'n') optopt = LENGTH;
        return option_refuse(&(struct refused){argv[optind - 1], c, optopt, numbers, NUMBERS}, e);
    }
}

/* Where the largest logit is taken, nothing is drawn. */
static void say_unused(const struct parsing *p)
{
    for (int i = 0; i < NUMBERS; i++)
        if (p->given[i] && numbers[i].draws && p->value[TEMPERATURE] == 0)
            log_line("%s: not used, --temp is 0: the likeliest token is taken", numbers[i].name);
}

static void fill(const struct parsing *p)
{
    struct talker_options *t = &p->o->talker;

    t->max_new = (int64_t)p->value[LENGTH];
    t->threads = (int64_t)p->value[THREADS];
    t->seed = (int64_t)p->value[SEED];
    t->memory_limit = p->value[MEMORY];
    t->sampling = (struct sampling){.penalty = p->value[PENALTY],
                                    .temperature = p->value[TEMPERATURE],
                                    .top_k = (int64_t)p->value[TOP_K],
                                    .top_p = p->value[TOP_P]};
    t->stops = p->o->stops;
    t->n_stops = p->o->n_stops;
}

bool options_parse(struct options *o, int argc, char **argv, struct err *e)
{
    struct parsing p = {.o = o};
    int c;

    *o = (struct options){0};
    for (int i = 0; i < NUMBERS; i++)
        p.value[i] = numbers[i].def;
    o->images = mem_new((size_t)argc, sizeof *o->images, "options", e);
    o->stops = mem_new((size_t)argc, sizeof *o->stops, "options", e);
    if (!o->images || !o->stops) return false;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":p:n:", known, NULL)) != -1)
        if (!take_option(&p, c, argv, e)) return false;
    if (optind == argc) return err_set(e, "MODEL_DIR is missing; see --help");
    if (optind + 1 < argc)
        return err_set(e, "%s: not understood; one model is talked to, see --help",
                       argv[optind + 1]);
    o->model = argv[optind];
    say_unused(&p);
    fill(&p);
    return true;
}

void options_free(struct options *o)
{
    free(o->images);
    free(o->stops);
}
