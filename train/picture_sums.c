/* picture_sums.c - records which pictures a run uses. inputs.json has the checksums of the sample
 * files, which name pictures; this is about the pictures' contents. Their keys are known anyway,
 * since the cache is indexed by them, so no picture is read just for this. */
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_KEY "----------------------------------------------------------------"

/* Set number i: data.train, then those of data.eval; NULL after the last. */
static const struct dataset *set_at(const struct run *r, int64_t i)
{
    return i == 0 ? &r->train : i <= r->n_eval ? &r->eval[i - 1].data : NULL;
}

static bool has_pictures(const struct run *r)
{
    const struct dataset *d;

    for (int64_t i = 0; (d = set_at(r, i)); i++)
        if (d->n_images) return true;
    return false;
}

/* "KEY  PATH" and a newline, in new memory. A path with newlines or backslashes is written as by
 * sha256sum: a backslash before the line, \\n and \\\\ in the path. */
static char *line_of(const struct dataset_image *img, struct err *e)
{
    const char *key = img->key[0] ? img->key : NO_KEY;
    char *escaped, *to, *line;

    if (!strpbrk(img->path, "\n\\")) return mem_printf(e, "%s  %s\n", key, img->path);
    to = escaped = mem_new(strlen(img->path) + 1, 2, "a picture's path", e);
    if (!escaped) return NULL;
    for (const char *p = img->path; *p; p++) {
        if (*p == '\n' || *p == '\\') *to++ = '\\';
        *to++ = (char)(*p == '\n' ? 'n' : *p);
    }
    line = mem_printf(e, "\\%s  %s\n", key, escaped);
    free(escaped);
    return line;
}

/* Reports a line that differs: in its key, or because the list is of other pictures. */
static bool differs(const struct run *r, const struct dataset_image *img, const char *was,
                    const char *now, struct err *e)
{
    const size_t key = (now[0] == '\\') + sizeof NO_KEY - 1;
    const char *how = "has changed since";

    if (strlen(was) < key || strcmp(was + key, now + key) != 0)
        how = "was not among the pictures when";
    else if (!img->key[0])
        how = "cannot be read any more, as it was when";
    else if (strstr(was, NO_KEY))
        how = "could not be read when";
    return err_set(e,
                   "%s: %s %s this run began: put back what was there, or choose another run.dir",
                   r->c.run.dir, img->path, how);
}

/* The next line of the list must be for this picture. */
static bool check_line(const struct run *r, FILE *fp, char **was, size_t *cap,
                       const struct dataset_image *img, struct err *e)
{
    char *now = line_of(img, e);
    bool ok = now;

    if (ok && getline(was, cap, fp) < 0)
        ok = feof(fp) ? differs(r, img, "", now, e) : err_system(e, errno, "pictures.sha256");
    else if (ok && strcmp(*was, now) != 0)
        ok = differs(r, img, *was, now, e);
    free(now);
    return ok;
}

bool run_check_pictures(struct run *r, struct err *e)
{
    char *path, *was = NULL;
    const struct dataset *d;
    size_t cap = 0;
    FILE *fp;
    bool ok;

    if (r->pictures_recorded || !has_pictures(r)) return true;
    path = run_path(r, e, "pictures.sha256");
    ok = path && run_name_pictures(r, e);
    fp = ok ? fopen(path, "r") : NULL;
    if (ok && !fp && errno != ENOENT) ok = err_system(e, errno, "%s", path);
    if (ok && !fp && r->resumed)
        log_line("%s is not there: whether pictures have changed since this run began is not "
                 "known; they are taken as they are now",
                 path);
    for (int64_t i = 0; ok && fp && (d = set_at(r, i)); i++)
        for (int64_t k = 0; ok && k < d->n_images; k++)
            ok = check_line(r, fp, &was, &cap, &d->images[k], e);
    if (ok && fp && getline(&was, &cap, fp) >= 0)
        ok = err_set(e,
                     "%s: lists more pictures than there are now: put back what was there, or "
                     "choose another run.dir",
                     path);
    if (ok && fp && !feof(fp)) ok = err_system(e, errno, "%s", path);
    if (fp) fclose(fp);
    r->pictures_recorded = ok && fp;
    free(was);
    free(path);
    return ok;
}

bool run_record_pictures(struct run *r, struct err *e)
{
    struct file_out out = {0};
    const struct dataset *d;
    char *path;
    bool ok;

    if (r->pictures_recorded || !has_pictures(r)) return true;
    path = run_path(r, e, "pictures.sha256");
    ok = path && file_out_open(&out, path, e);
    for (int64_t i = 0; ok && (d = set_at(r, i)); i++)
        for (int64_t k = 0; ok && k < d->n_images; k++) {
            char *line = line_of(&d->images[k], e);
            ok = line;
            if (ok) fputs(line, out.fp); /* commit checks the stream's error flag */
            free(line);
        }
    ok = ok && file_out_commit(&out, e);
    file_out_abort(&out);
    r->pictures_recorded = ok;
    free(path);
    return ok;
}
