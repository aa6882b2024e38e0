/* run.c - opening a run: its directory, threads and memory, its data. */
#include "train/run.h"
#include "autograd/gemm.h"
#include "autograd/team.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/jsonc.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/given.h"
#include "train/room.h"
#include "train/rundir.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

char *run_path(const struct run *r, struct err *e, const char *fmt, ...)
{
    char name[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    return file_join(r->c.run.dir, name, e);
}

bool run_has_step(const struct run *r, enum step step)
{
    for (int64_t i = 0; i < r->c.run.steps.n; i++)
        if (r->c.run.steps.v[i] == (int)step) return true;
    return false;
}

static bool machine_memory(size_t *bytes, struct err *e)
{
    static const char path[] = "/sys/fs/cgroup/memory.max"; /* what a container or a job may use */
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    FILE *fp = fopen(path, "r");
    unsigned long long limit;
    size_t allowed = limits_memory((size_t)room_held());

    *bytes = pages > 0 && size > 0 ? (size_t)pages * (size_t)size : (size_t)8 << 30;
    if (allowed < *bytes) *bytes = allowed;
    if (!fp) return errno == ENOENT || errno == EACCES || err_system(e, errno, "%s", path);
    if (fscanf(fp, "%llu", &limit) == 1 && limit < *bytes) *bytes = (size_t)limit;
    fclose(fp);
    return true;
}

/* Two runs in one directory would ruin each other. */
static bool lock_dir(struct run *r, struct err *e)
{
    char *path = run_path(r, e, "lock");

    if (!path) return false;
    r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (r->lock < 0)
        err_system(e, errno, "%s", path);
    else if (flock(r->lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            err_set(e, "%s: another run works in this directory", r->c.run.dir);
        else
            err_system(e, errno, "%s: cannot be locked", path);
        close(r->lock);
        r->lock = -1;
    }
    free(path);
    return r->lock >= 0;
}

static bool holds_a_run(const struct run *r, struct err *e)
{
    return err_set(e,
                   "%s: holds a run already: add --resume to go on with it, or choose another "
                   "run.dir",
                   r->c.run.dir);
}

/* A run is gone on with under the same settings. */
static bool check_config(struct run *r, const char *path, bool resume, struct err *e)
{
    struct config was = {0};
    char *diff = NULL;
    bool ok = true;

    if (!resume) ok = holds_a_run(r, e);
    ok = ok && schema_load(&config_schema, &was, path, NULL, 0, e);
    diff = ok ? schema_dump_diff(&config_schema, &was, &r->c, true, e) : NULL;
    ok = ok && diff;
    if (ok && diff[0])
        ok = err_set(e, "%s: cannot be resumed with other settings: %s", r->c.run.dir, diff);
    schema_free(&config_schema, &was);
    free(diff);
    return ok;
}

/* The directory of a new run. */
static bool make_dir(struct run *r, const char *config, struct err *e)
{
    bool made = false; /* by another one that was started beside this one, and has ended */

    return file_mkdirs(r->c.run.dir, e) && lock_dir(r, e) && file_there(config, &made, e) &&
           (!made || holds_a_run(r, e));
}

static bool open_logs(struct run *r, struct err *e)
{
    char *log = run_path(r, e, "train.log"), *lines = run_path(r, e, "metrics.jsonl");
    bool ok = log && lines && log_open(log, e) && metrics_open(&r->metrics, lines, e);

    free(log);
    free(lines);
    return ok;
}

/* Of the first bytes of every tensor: a training changes them all, and 7B are not read for it. */
static void model_sum(const struct model *m, char hex[65])
{
    struct sha256 sum;

    sha256_init(&sum);
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct tensor *t = &m->params[i].t;
        size_t bytes = (size_t)tensor_count(t) * dtype_size(t->dtype);
        sha256_add(&sum, t->data, bytes < 4096 ? bytes : 4096);
    }
    sha256_hex(&sum, hex);
}

/* When the model's files were last written to. Not one of the sums: a file that was put back has
 * another time. */
static const char model_time_key[] = "model.path written";

static bool model_time(const struct model *m, char text[65], struct err *e)
{
    struct timespec last = {0};
    struct stat st;

    for (size_t i = 0; i < m->files.file_count; i++) {
        const char *path = m->files.files[i].path;
        if (stat(path, &st) != 0) return err_system(e, errno, "%s", path);
        if (st.st_mtim.tv_sec > last.tv_sec ||
            (st.st_mtim.tv_sec == last.tv_sec && st.st_mtim.tv_nsec > last.tv_nsec))
            last = st.st_mtim;
    }
    snprintf(text, 65, "%lld.%09ld", (long long)last.tv_sec, last.tv_nsec);
    return true;
}

/* The settings name the data and the model; this is what was in them. */
static cJSON *input_sums(const struct run *r, const struct model *given, struct err *e)
{
    cJSON *all = cJSON_CreateObject();
    char key[65];
    bool ok = cJSON_AddStringToObject(all, "data.train", r->train.hash);

    for (int64_t i = 0; ok && i < r->n_eval; i++) {
        snprintf(key, sizeof key, "data.eval[%lld]", (long long)i);
        ok = cJSON_AddStringToObject(all, key, r->eval[i].data.hash);
    }
    if (ok && given) {
        model_sum(given, key);
        ok = cJSON_AddStringToObject(all, "model.path", key);
        if (ok && !model_time(given, key, e)) {
            cJSON_Delete(all);
            return NULL;
        }
        ok = ok && cJSON_AddStringToObject(all, model_time_key, key);
    }
    if (ok) return all;
    cJSON_Delete(all);
    err_set(e, "out of memory for inputs.json");
    return NULL;
}

/* What the steps left already would not go with other data or another model. */
static bool check_inputs(const struct run *r, const char *path, const cJSON *now, struct err *e)
{
    struct jsonc was;
    const cJSON *item;
    bool ok = true;

    if (!jsonc_read(&was, path, (size_t)1 << 20, e)) return false;
    cJSON_ArrayForEach(item, now)
    {
        const char *old =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(was.root, item->string));
        if (!ok || !old || strcmp(old, item->valuestring) == 0) continue;
        if (strcmp(item->string, model_time_key) == 0)
            log_line("%s: its weights were written since this run began; the beginning of every "
                     "tensor, which is compared, is as it was",
                     r->c.model.path);
        else
            ok = err_set(e,
                         "%s: %s has changed since this run began: put it back, or choose another "
                         "run.dir",
                         r->c.run.dir, item->string);
    }
    jsonc_close(&was);
    return ok;
}

static bool has_left_out(const struct run *r)
{
    bool any = r->train.left_out;

    for (int64_t i = 0; i < r->n_eval; i++)
        any = any || r->eval[i].data.left_out;
    return any;
}

bool run_name_left_out(const struct run *r, struct err *e)
{
    char *path = run_path(r, e, "left_out.txt");
    struct file_out out = {0};
    bool any = has_left_out(r), ok = path;

    if (ok && any && (ok = file_out_open(&out, path, e))) {
        if (r->train.left_out) fputs(r->train.left_out, out.fp);
        for (int64_t i = 0; i < r->n_eval; i++)
            if (r->eval[i].data.left_out) fputs(r->eval[i].data.left_out, out.fp);
        ok = file_out_commit(&out, e);
        file_out_abort(&out);
    }
    /* of an earlier try, whose pictures have come back since */
    if (ok && !any && unlink(path) != 0 && errno != ENOENT)
        ok = err_system(e, errno, "%s: cannot be deleted", path);
    free(path);
    return ok;
}

/* What a new run has put into its directory before its first step, which broken pictures may come
 * to light in. Without config.json, which goes first, it is no run. */
static bool take_back(const struct run *r, struct err *e)
{
    static const char *const names[] = {"config.json", "inputs.json", "metrics.jsonl", "train.log",
                                        "lock"};
    bool ok = true;

    for (size_t i = 0; ok && i < sizeof names / sizeof *names; i++) {
        char *path = run_path(r, e, "%s", names[i]);
        ok = path && (unlink(path) == 0 || errno == ENOENT ||
                      err_system(e, errno, "%s: cannot be deleted", path));
        free(path);
    }
    return ok;
}

bool run_refuse(const struct run *r, struct err *e, const char *fmt, ...)
{
    char why[1200];
    struct err list;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    if (r->dry || !has_left_out(r)) return err_set(e, "%s", why);
    if (!file_mkdirs(r->c.run.dir, &list) || !run_name_left_out(r, &list) ||
        (r->lock > 0 && !r->resumed && !r->pictures_recorded && !take_back(r, &list)))
        return err_set(e, "%s; and their list is missing: %s", why, list.msg);
    return err_set(e, "%s; all are named in %s/left_out.txt", why, r->c.run.dir);
}

bool run_record(struct run *r, const struct model *given, struct err *e)
{
    char *inputs = run_path(r, e, "inputs.json"), *config = run_path(r, e, "config.json");
    char *text = NULL, *settings = NULL;
    cJSON *now = input_sums(r, given, e);
    bool there = false, ok = inputs && config && now;

    if (ok && !r->resumed) ok = make_dir(r, config, e) && open_logs(r, e);
    if (ok && r->resumed) ok = file_there(inputs, &there, e);
    if (ok && there) ok = check_inputs(r, inputs, now, e);
    if (ok) {
        text = jsonc_print(now, true, e);
        settings = text ? schema_dump(&config_schema, &r->c, e) : NULL;
        ok = settings;
    }
    /* config.json last: it makes the directory a run */
    ok = ok && run_name_left_out(r, e) && file_write(inputs, text, strlen(text), e) &&
         file_write(config, settings, strlen(settings), e);
    cJSON_Delete(now);
    free(text);
    free(settings);
    free(inputs);
    free(config);
    return ok;
}

/* The number is part of a run: its bits depend on it, and a resumed run must have the same. */
static void choose_threads(struct run *r)
{
    if (r->c.run.threads == 0) r->c.run.threads = omp_get_num_procs();
}

bool run_limits(struct run *r, struct err *e)
{
    char text[GEMM_TEXT];

    choose_threads(r);
    omp_set_dynamic(0);
    omp_set_num_threads((int)r->c.run.threads);
    gemm_setup((enum gemm_library)r->c.run.gemm, (enum gemm_compute)r->c.run.compute);
    log_line("matrix products: %s", gemm_describe(text));
    if (!team_open((int)r->c.run.threads, e)) return false;
    r->tape = tape_new(e);
    if (!r->tape) return false;
    tape_stash_bf16(r->tape, r->c.run.compute == GEMM_BF16);
    r->memory_limit = (size_t)(r->c.run.memory_limit * 0x1p30);
    if (r->memory_limit == 0 && !machine_memory(&r->memory_limit, e)) return false;
    r->room = r->memory_limit;
    return true;
}

bool run_open(struct run *r, bool resume, struct err *e)
{
    char *config = run_path(r, e, "config.json");
    bool ok = config && log_keep(e) && rundir_check(r, e) && file_there(config, &r->resumed, e);

    choose_threads(r);
    if (ok && r->resumed)
        ok = lock_dir(r, e) && check_config(r, config, resume, e) && open_logs(r, e);
    free(config);
    return ok && run_limits(r, e);
}

void run_close(struct run *r)
{
    run_close_pictures(r);
    run_close_data(r);
    metrics_close(&r->metrics);
    tape_free(r->tape);
    if (r->lock > 0) close(r->lock);
    schema_free(&config_schema, &r->c);
}

/* The tokenizer's ids must be rows of the embedding, which may have more of them (they are padded
 * often), and both must mean the same by the picture's id. */
static bool check_tokenizer(const struct tokenizer *tk, const char *path,
                            const struct hf_config *cfg, struct err *e)
{
    int64_t last = tokenizer_size(tk) - 1, image = cfg->image_token_index;
    const char *piece;

    if (last >= cfg->text.vocab_size)
        return err_set(e,
                       "%s: the last token \"%s\" has id %lld, but the model's vocab_size is %lld "
                       "(%s): use the tokenizer that belongs to the model",
                       path, tokenizer_piece(tk, (int32_t)last), (long long)last,
                       (long long)cfg->text.vocab_size, cfg->file);
    if (!cfg->family->vision || tokenizer_id(tk, "<image>") == image) return true;
    piece = tokenizer_piece(tk, (int32_t)image);
    if (tokenizer_id(tk, "<image>") < 0)
        return err_set(e, "%s: has no token \"<image>\", but image_token_index is %lld (%s)", path,
                       (long long)image, cfg->file);
    return err_set(
        e,
        "%s: token \"<image>\" has id %lld, but image_token_index is %lld (%s), which is "
        "%s%s%s here",
        path, (long long)tokenizer_id(tk, "<image>"), (long long)image, cfg->file,
        piece ? "\"" : "", piece ? piece : "no token", piece ? "\"" : "");
}

static void log_lines(const char *before, const char *lines)
{
    for (size_t n; *lines; lines += n + 1) { /* each ends with a line break */
        n = strcspn(lines, "\n");
        log_line("%s%.*s", before, (int)n, lines);
    }
}

static bool open_tokenizer(struct run *r, const struct hf_config *cfg, struct err *e)
{
    const char *dir = r->c.model.tokenizer ? r->c.model.tokenizer : r->c.model.path;
    const struct tokenizer_options o = {(enum tokenizer_form)r->c.model.tokenizer_form,
                                        cfg->family->model_type, cfg->text.vocab_size};
    char *path = dir ? file_join(dir, "tokenizer.json", e) : NULL;

    if (!dir) return err_set(e, "model.tokenizer: must be given where model.path is not");
    r->tokenizer = path ? tokenizer_open(dir, &o, e) : NULL;
    if (r->tokenizer && !check_tokenizer(r->tokenizer, path, cfg, e)) {
        tokenizer_free(r->tokenizer);
        r->tokenizer = NULL;
    }
    free(path);
    if (r->tokenizer) log_lines("tokenizer: ", tokenizer_notes(r->tokenizer));
    return r->tokenizer;
}

/* From the model's directory; a model yet to be trained gets what CLIP's would do at its size. */
static bool open_processor(struct run *r, const struct hf_config *cfg, struct err *e)
{
    struct processor *p = &r->processor;
    int64_t size = cfg->vision.image_size;
    const char *key;

    if (!cfg->family->vision) return true;
    if (r->c.model.path) {
        if (!processor_load(p, r->c.model.path, e)) return false;
    } else {
        processor_default(p);
        p->size_h = p->size_w = p->crop_h = p->crop_w = size;
        if (!processor_check(p, &key, e)) return false;
    }
    if (p->height != size || p->width != size)
        return err_set(e,
                       "%s: its image processor makes pictures of %lld x %lld, the tower takes "
                       "%lld x %lld",
                       r->c.model.path, (long long)p->height, (long long)p->width, (long long)size,
                       (long long)size);
    return true;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

bool run_report_drops(const struct run *r, const struct dataset *d, const char *what, struct err *e)
{
    const char *first = NULL;
    int64_t bad = 0;

    for (int i = 0; i < DROPS; i++) {
        if (d->dropped[i] == 0) continue;
        log_line("%s: samples left out: %lld, %s; the first: %s", what, (long long)d->dropped[i],
                 drop_names[i], d->first_dropped[i]);
        if (i == DROP_TOO_LONG) continue;
        bad += d->dropped[i];
        if (!first) first = d->first_dropped[i];
    }
    if (bad > r->c.data.max_bad)
        return run_refuse(
            r, e,
            "%s: samples that cannot be used: %lld, data.max_bad allows %lld; the first: "
            "%s",
            what, (long long)bad, (long long)r->c.data.max_bad, first);
    return true;
}

static bool open_sets(struct run *r, const struct dataset_options *o, struct err *e)
{
    const struct config_source *train = r->c.data.train.v, *eval = r->c.data.eval.v;
    int64_t n = r->c.data.train.n;
    struct dataset_options eval_o = *o;
    struct dataset_source *sources = mem_new((size_t)n, sizeof *sources, "data sources", e);
    bool ok = sources;

    for (int64_t i = 0; ok && i < n; i++)
        sources[i] = (struct dataset_source){train[i].path, train[i].images, train[i].limit};
    ok = ok && dataset_open(&r->train, sources, n, o, e);
    free(sources);
    if (ok) unused_log(&r->train.unused, "data.train");
    if (!ok || !run_report_drops(r, &r->train, "data.train", e)) return false;
    log_line("data.train: %lld samples, %lld tokens, %lld trained; the longest has %lld",
             (long long)r->train.n, (long long)r->train.tokens, (long long)r->train.labels,
             (long long)r->train.longest);
    eval_o.asked = r->c.evaluate.score == SCORE_ANSWERS;
    r->eval = mem_new((size_t)r->c.data.eval.n, sizeof *r->eval, "eval sets", e);
    if (!r->eval) return false;
    for (int64_t i = 0; i < r->c.data.eval.n; i++) {
        struct dataset_source one = {eval[i].path, eval[i].images, eval[i].limit};
        r->eval[i].name = eval[i].name ? eval[i].name : base_name(eval[i].path);
        if (!dataset_open(&r->eval[i].data, &one, 1, &eval_o, e)) return false;
        r->n_eval = i + 1;
        unused_log(&r->eval[i].data.unused, r->eval[i].name);
        if (!run_report_drops(r, &r->eval[i].data, r->eval[i].name, e)) return false;
        log_line("data.eval %s: %lld samples", r->eval[i].name, (long long)r->eval[i].data.n);
    }
    return true;
}

bool run_open_data(struct run *r, const struct hf_config *cfg, struct err *e)
{
    static const char *const names[] = {TEMPLATE_NAMES};
    struct dataset_options o = {.image_id =
                                    cfg->family->vision ? (int32_t)cfg->image_token_index : -1,
                                .image_tokens = hf_image_tokens(cfg),
                                .max_length = r->c.data.max_length,
                                .too_long_is_error = r->c.data.too_long == TOO_LONG_ERROR};

    if (cfg->text.max_position_embeddings >= o.max_length) {
        r->length_from = mem_strdup("data.max_length", e);
    } else {
        o.max_length = cfg->text.max_position_embeddings;
        r->length_from = r->c.model.path ? mem_printf(e, "max_position_embeddings of %s", cfg->file)
                                         : mem_strdup("baseline.max_length", e);
    }
    o.limited_by = r->length_from;
    if (!r->length_from) return false;
    r->chat = template_find(names[r->c.data.chat], e);
    if (!r->chat || !open_tokenizer(r, cfg, e) || !template_check(r->chat, r->tokenizer, e) ||
        !given_open(r, cfg, e) || !open_processor(r, cfg, e))
        return false;
    o.tokenizer = r->tokenizer;
    o.chat = r->chat;
    return open_sets(r, &o, e) && given_check_window(r, cfg, e);
}

void run_close_data(struct run *r)
{
    dataset_close(&r->train);
    for (int64_t i = 0; i < r->n_eval; i++)
        dataset_close(&r->eval[i].data);
    free(r->eval);
    free(r->stop);
    free(r->length_from);
    tokenizer_free(r->tokenizer);
    r->eval = NULL;
    r->n_eval = 0;
    r->stop = NULL;
    r->length_from = NULL;
    r->tokenizer = NULL;
}
