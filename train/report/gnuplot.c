/* gnuplot.c - see gnuplot.h. */
#include "train/report/gnuplot.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/signals.h"
#include "data/picture/image.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* Okabe and Ito's colour-blind safe colours without their yellow, which is too pale on white, then
 * two of Paul Tol's. Every curve also has a marker of its own; where colours come again, markers
 * are one further: all pairs differ before one comes again. */
static const char *const colours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00",
                                      "#56B4E9", "#000000", "#882255", "#999933"};
static const int marks[] = {7, 5, 9, 13, 11, 15, 6, 4, 8}; /* gnuplot's point types: 7 is a disc */

#define COLOURS (sizeof colours / sizeof *colours)
#define MARKS (sizeof marks / sizeof *marks)

const char *gnuplot_colour(size_t curve)
{
    return colours[curve % COLOURS];
}

int gnuplot_mark(size_t curve)
{
    return marks[(curve + curve / COLOURS) % MARKS];
}

bool gnuplot_again(size_t curve)
{
    return curve >= COLOURS;
}

void gnuplot_bars(FILE *fp, const char *name, size_t curve, int column, int error)
{
    fprintf(fp,
            "'%s.tsv' skip 1 using (column(1) == %zu ? column(2) : NaN):%d:%d with yerrorbars "
            "linewidth 1 pointtype 0 linecolor rgb '%s' notitle",
            name, curve, column, error, gnuplot_colour(curve));
}

double gnuplot_step(double span, int ticks)
{
    static const double nice[] = {1, 2, 2.5, 5};
    double power = pow(10, floor(log10(span / ticks)));

    for (size_t i = 0; i < sizeof nice / sizeof *nice; i++)
        if (nice[i] * power * ticks >= span) return nice[i] * power;
    return 10 * power;
}

void gnuplot_quoted(FILE *fp, const char *text)
{
    fputc('\'', fp); /* there a quote is doubled, and nothing else is special */
    for (; *text; text++) {
        if (*text == '\'') fputc('\'', fp);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, fp);
    }
    fputc('\'', fp);
}

int gnuplot_width(const char *s)
{
    int n = 0;

    for (; *s && n < 200; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

void gnuplot_head(FILE *fp, const char *name, int width, size_t legend)
{
    const int least = 620, line = 29, lines = (int)legend; /* at most some thousands */
    const int height = 130 + line * lines > least ? 130 + line * lines : least;

    fprintf(fp,
            "# Makes %s.png of %s.tsv: gnuplot %s.gnuplot\n"
            "if (!exists('output')) output = '%s.png'\n"
            "if (strstrt(GPVAL_TERMINALS, 'pngcairo') > 0) {\n"
            "    set terminal pngcairo noenhanced size %d,%d font 'DejaVu Sans,12'\n"
            "} else {\n"
            "    set terminal png noenhanced size %d,%d\n"
            "}\n"
            "set output output\n"
            "set encoding utf8\n"
            "set datafile separator \"\\t\"\n"
            "set border 3 linecolor rgb '#606060'\n"
            "set tics out nomirror textcolor rgb '#303030'\n"
            "set grid xtics ytics linetype 1 linewidth 1 linecolor rgb '#E6E6E6'\n"
            "set key outside right top Left reverse spacing 1.5 samplen 2.5 noenhanced\n",
            name, name, name, name, width, height, width, height);
}

static bool write_file(const char *dir, const char *ending, const struct gnuplot_picture *p,
                       void (*print)(FILE *, const void *), struct err *e)
{
    char *base = file_join(dir, p->name, e),
         *path = base ? mem_printf(e, "%s.%s", base, ending) : NULL;
    struct file_out out = {0};
    bool ok = path && file_out_open(&out, path, e);

    if (ok) {
        print(out.fp, p->of);
        ok = file_out_commit(&out, e);
    }
    free(path);
    free(base);
    return ok;
}

/* What a child ends with whose program could not be started, where posix_spawn
 * cannot say so itself. */
enum { NOT_RUN = 127 };

/* Waits for the child to exit; if a signal asks the run to stop, kills the child first. */
static bool wait_for(pid_t pid, int *status, struct err *why)
{
    const struct timespec tick = {0, 10000000};
    pid_t done;

    while ((done = waitpid(pid, status, WNOHANG)) == 0) {
        if (signals_came()) kill(pid, SIGKILL);
        nanosleep(&tick, NULL);
    }
    return done == pid || err_system(why, errno, "gnuplot");
}

/* Runs gnuplot on NAME.gnuplot in dir, without a shell and without the user's own start-up file. */
static bool run_gnuplot(const char *dir, const char *name, struct err *why)
{
    char output[80], script[40];
    char *argv[] = {"gnuplot", "--default-settings", "-e", output, script, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int rc, status = 0;
    pid_t pid;

    snprintf(output, sizeof output, "output = '%s.png.tmp'", name);
    snprintf(script, sizeof script, "%s.gnuplot", name);
    if (posix_spawn_file_actions_init(&actions) != 0) return err_set(why, "out of memory");
    if (posix_spawnattr_init(&attr) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return err_set(why, "out of memory");
    }
    rc = posix_spawn_file_actions_addchdir_np(&actions, dir);
    for (int fd = STDIN_FILENO; rc == 0 && fd <= STDERR_FILENO; fd++)
        rc = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    if (rc == 0) rc = signals_for_child(&attr);
    if (rc == 0) rc = posix_spawnp(&pid, argv[0], &actions, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    if (rc != 0) return err_system(why, rc, "gnuplot cannot be run");
    if (!wait_for(pid, &status, why)) return false;
    if (WIFSIGNALED(status)) return err_set(why, "gnuplot: killed by signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) == 0) return true;
    if (WEXITSTATUS(status) == NOT_RUN)
        return err_set(why, "gnuplot cannot be run: is it installed?");
    return err_set(why, "gnuplot ended with status %d; `gnuplot %s` there says why",
                   WEXITSTATUS(status), script);
}

/* gnuplot does not look at what its writes return: on a full disk it leaves a part of a picture, or
 * an empty file, and ends with status 0. */
static bool is_whole(const char *tmp, struct err *e)
{
    static const char end[] = "IEND\xae\x42\x60\x82"; /* the last bytes of every PNG */
    const size_t tail = sizeof end - 1;
    struct file_map m = {0};
    struct image img = {0};
    struct err why;
    bool read = file_map_open(&m, tmp, &why) && image_decode(&img, tmp, m.data, m.size, &why);
    bool whole = read && !img.damage && memcmp(m.data + m.size - tail, end, tail) == 0;

    image_free(&img);
    file_map_close(&m);
    if (whole) return true;
    if (!read && why.machine) return (*e = why, false);
    err_set(e, "%s: gnuplot has written no whole picture and given no reason: is the disk full?",
            tmp);
    e->machine = true;
    return false;
}

static bool make_png(const char *dir, const char *name, struct err *note, struct err *e)
{
    char *base = file_join(dir, name, e), *png = base ? mem_printf(e, "%s.png", base) : NULL;
    char *tmp = png ? mem_printf(e, "%s.tmp", png) : NULL;
    bool ok = tmp != NULL;

    if (ok && run_gnuplot(dir, name, note)) {
        ok = is_whole(tmp, e);
        if (ok)
            ok = file_publish(tmp, png, e);
        else
            unlink(tmp);
    } else if (ok) {
        err_context(note, "%s was not made", png);
        unlink(tmp);
        if (note->machine)
            ok = (*e = *note, false);
        else if (unlink(png) != 0 && errno != ENOENT)
            ok = err_system(e, errno, "%s: is of an earlier report, and cannot be deleted", png);
    }
    free(tmp);
    free(png);
    free(base);
    return ok;
}

bool gnuplot_make(const char *dir, const struct gnuplot_picture *p, struct err *note, struct err *e)
{
    *note = (struct err){0};
    return write_file(dir, "tsv", p, p->data, e) && write_file(dir, "gnuplot", p, p->script, e) &&
           make_png(dir, p->name, note, e) && signals_go_on(e);
}

bool gnuplot_remove(const char *dir, const char *name, struct err *e)
{
    static const char *const ends[] = {"png", "tsv", "gnuplot"};
    bool ok = true;

    for (size_t i = 0; ok && i < sizeof ends / sizeof *ends; i++) {
        char *path = mem_printf(e, "%s/%s.%s", dir, name, ends[i]);
        ok = path &&
             (unlink(path) == 0 || errno == ENOENT ||
              err_system(e, errno, "%s: is of an earlier report, and cannot be deleted", path));
        free(path);
    }
    return ok;
}
