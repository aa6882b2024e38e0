/* record.c - see record.h. */
#include "train/submit/record.h"
#include "base/file.h"
#include "base/json/jsonc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const submit_job_names[JOBS] = {"shared", "points", "report"};

static bool take(struct record *r, const cJSON *root)
{
    const char *when = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "submitted"));
    const char *dir = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "run.dir"));
    const cJSON *jobs = cJSON_GetObjectItemCaseSensitive(root, "jobs");

    if (!when || !dir || !cJSON_IsObject(jobs)) return false;
    snprintf(r->when, sizeof r->when, "%s", when);
    snprintf(r->dir, sizeof r->dir, "%s", dir);
    for (int i = 0; i < JOBS; i++) {
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(jobs, submit_job_names[i]);
        if (!id) continue;
        if (!cJSON_IsNumber(id) || !(id->valuedouble >= 1 && id->valuedouble < 1e10)) return false;
        r->id[i] = (long long)id->valuedouble;
    }
    return true;
}

static const char what_to_do[] =
    "it says which jobs were submitted: delete it once squeue shows none of them";

bool record_load(struct record *r, const char *path, bool *there, struct err *e)
{
    struct jsonc doc;
    bool ok;

    *r = (struct record){0};
    if (!file_there(path, there, e)) return false;
    if (!*there) return true;
    if (!jsonc_read(&doc, path, (size_t)1 << 20, e))
        return !e->machine && err_set(e, "%s: %s", e->msg, what_to_do);
    ok = take(r, doc.root) || err_set(e, "%s: is not what was written: %s", path, what_to_do);
    jsonc_close(&doc);
    return ok;
}

bool record_save(const struct record *r, const char *path, struct err *e)
{
    cJSON *root = cJSON_CreateObject(), *jobs = NULL;
    char *text = NULL;
    bool ok = cJSON_AddStringToObject(root, "submitted", r->when) &&
              cJSON_AddStringToObject(root, "run.dir", r->dir) &&
              (jobs = cJSON_AddObjectToObject(root, "jobs"));

    for (int i = 0; ok && i < JOBS; i++)
        if (r->id[i])
            ok = cJSON_AddNumberToObject(jobs, submit_job_names[i], (double)r->id[i]) != NULL;
    if (ok)
        text = jsonc_print(root, true, e);
    else
        err_set(e, "out of memory for %s", path);
    ok = text && file_write(path, text, strlen(text), e);
    cJSON_Delete(root);
    free(text);
    return ok;
}

const char *record_ids(char *out, size_t size, const struct record *r)
{
    size_t used = 0;

    *out = '\0';
    for (int i = 0; i < JOBS; i++)
        if (r->id[i] && used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%lld", used ? " " : "", r->id[i]);
    return out;
}
