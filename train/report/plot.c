/* plot.c - writes the numbers and the gnuplot script of the recovery curve, and runs gnuplot. Ticks
 * and ranges are computed here, so that they read well at any scale; the script contains them. */
#include "train/report/plot.h"

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
 * two of Paul Tol's. Every curve also has a marker of its own. */
static const char *const colours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00",
                                      "#56B4E9", "#000000", "#882255", "#999933"};
static const int marks[] = {7, 5, 9, 13, 11, 15, 6, 4, 8}; /* gnuplot's point types: 7 is a disc */

#define COLOURS (sizeof colours / sizeof *colours)
#define MARKS (sizeof marks / sizeof *marks)

/* ---- scales ---- */

/* The smallest step of 1, 2, 2.5 or 5 times a power of ten with at most `ticks` steps in `span`. */
static double nice_step(double span, int ticks)
{
    static const double nice[] = {1, 2, 2.5, 5};
    double power = pow(10, floor(log10(span / ticks)));

    for (size_t i = 0; i < sizeof nice / sizeof *nice; i++)
        if (nice[i] * power * ticks >= span) return nice[i] * power;
    return 10 * power;
}

struct range {
    double low, high, step;
};

static struct range token_range(const struct recovery_plot *p)
{
    struct range r = {0, 0, 1};

    for (size_t c = 0; c < p->n; c++)
        for (size_t i = 0; i < p->curves[c].n; i++)
            if (isfinite(p->curves[c].x_tokens[i])) r.high = fmax(r.high, p->curves[c].x_tokens[i]);
    if (r.high <= 0) return (struct range){0, 1, 2}; /* nothing trained yet: one tick, at 0 */
    r.step = nice_step(r.high, 8);
    r.high *= 1.02; /* keeps the last marker inside */
    return r;
}

/* In percent of the base; always includes 99 to 101, and 0 if the curves come near it. */
static struct range percent_range(const struct recovery_plot *p)
{
    struct range r = {99, 101, 1};
    double span;

    for (size_t c = 0; c < p->n; c++)
        for (size_t i = 0; i < p->curves[c].n; i++) {
            double y = 100 * p->curves[c].y_score[i] / p->base_score;
            if (!isfinite(y)) continue;
            r.low = fmin(r.low, y);
            r.high = fmax(r.high, y);
        }
    span = r.high - r.low;
    if (r.low > 0 && r.low < 0.25 * r.high) {
        r.low = 0;
        span = r.high;
    }
    r.step = nice_step(span, 8);
    if (r.low != 0) r.low = r.step * floor((r.low - 0.04 * span) / r.step);
    r.high = r.step * ceil((r.high + 0.04 * span) / r.step);
    return r;
}

/* ---- the two files ---- */

/* In gnuplot's single quotes a quote is doubled and nothing else is special. */
static void print_quoted(FILE *fp, const char *text)
{
    fputc('\'', fp);
    for (; *text; text++) {
        if (*text == '\'') fputc('\'', fp);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, fp);
    }
    fputc('\'', fp);
}

/* The label comes last, so that quotes in it cannot hide a number from gnuplot. */
static void print_data(FILE *fp, const struct recovery_plot *p)
{
    fprintf(fp, "curve\ttrained_tokens\tscore\tpercent_of_base\tlabel\n");
    for (size_t c = 0; c < p->n; c++)
        for (size_t i = 0; i < p->curves[c].n; i++) {
            double y = p->curves[c].y_score[i];
            fprintf(fp, "%zu\t%.17g\t%.17g\t%.17g\t", c, p->curves[c].x_tokens[i], y,
                    100 * y / p->base_score);
            for (const char *s = p->curves[c].label; *s; s++)
                fputc((unsigned char)*s < ' ' ? ' ' : *s, fp);
            fputc('\n', fp);
        }
}

static void print_token_ticks(FILE *fp, struct range r)
{
    static const struct {
        double unit;
        const char *letter;
    } units[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}, {1, ""}};
    size_t u = 0;

    /* The unit of the last tick, used for all: 0.5M, 1M, 1.5M. */
    while (u < 4 && r.step * floor(r.high / r.step) < units[u].unit)
        u++;
    fprintf(fp, "set xtics (");
    for (int i = 0; i * r.step <= r.high; i++)
        fprintf(fp, "%s'%.6g%s' %.17g", i ? ", " : "", i * r.step / units[u].unit,
                i ? units[u].letter : "", i * r.step);
    fprintf(fp, ")\n");
}

/* Code points. */
static int text_width(const char *s)
{
    int n = 0;

    for (; *s && n < 200; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

/* In pixels, so that the title fits over the curves and the longest label in the legend. */
static int picture_width(const struct recovery_plot *p)
{
    int title = 10 * text_width(p->title), label = 26; /* the base line's */

    for (size_t c = 0; c < p->n; c++)
        if (text_width(p->curves[c].label) > label) label = text_width(p->curves[c].label);
    return 180 + (title > 700 ? title : 700) + 9 * label;
}

/* The part that does not depend on the numbers. */
static const char script_style[] =
    "set encoding utf8\n"
    "set datafile separator \"\\t\"\n"
    "set border 3 linecolor rgb '#606060'\n"
    "set tics out nomirror textcolor rgb '#303030'\n"
    "set grid xtics ytics linetype 1 linewidth 1 linecolor rgb '#E6E6E6'\n"
    "set key outside right top Left reverse spacing 1.5 samplen 2.5 noenhanced\n"
    "set xlabel 'trained tokens' offset 0,-0.3\n"
    "set ylabel 'score relative to the base model (%)' offset 0.3,0\n";

static void print_script(FILE *fp, const struct recovery_plot *p)
{
    struct range x = token_range(p), y = percent_range(p);
    int width = picture_width(p), height = 620;

    fprintf(fp,
            "# Makes recovery.png of recovery.tsv: gnuplot recovery.gnuplot\n"
            "if (!exists('output')) output = 'recovery.png'\n"
            "if (strstrt(GPVAL_TERMINALS, 'pngcairo') > 0) {\n"
            "    set terminal pngcairo noenhanced size %d,%d font 'DejaVu Sans,12'\n"
            "} else {\n"
            "    set terminal png noenhanced size %d,%d\n"
            "}\n"
            "set output output\n%s",
            width, height, width, height, script_style);
    fprintf(fp, "set title ");
    print_quoted(fp, p->title);
    fprintf(fp, " noenhanced font ',15'\n");
    fprintf(fp, "set xrange [0:%.17g]\n", x.high);
    print_token_ticks(fp, x);
    fprintf(fp, "set yrange [%.17g:%.17g]\nset ytics %.17g\n", y.low, y.high, y.step);
    fprintf(fp,
            "plot 100 with lines linewidth 2 dashtype 2 linecolor rgb '#707070' "
            "title 'base model: %.4g = 100 %%'",
            p->base_score);
    for (size_t c = 0; c < p->n; c++) {
        fprintf(fp,
                ", \\\n     'recovery.tsv' skip 1 using (column(1) == %zu ? column(2) : NaN):4 "
                "with linespoints linewidth 2.2 dashtype %d pointtype %d pointsize 1.3 "
                "linecolor rgb '%s' title ",
                c, c < COLOURS ? 1 : 4, marks[c % MARKS], colours[c % COLOURS]);
        print_quoted(fp, p->curves[c].label);
    }
    fprintf(fp, "\nset output\n");
}

static bool write_file(const char *dir, const char *name, const struct recovery_plot *p,
                       void (*print)(FILE *, const struct recovery_plot *), struct err *e)
{
    char *path = file_join(dir, name, e);
    struct file_out out = {0};
    bool ok = path && file_out_open(&out, path, e);

    if (ok) {
        print(out.fp, p);
        ok = file_out_commit(&out, e);
    }
    free(path);
    return ok;
}

/* ---- gnuplot ---- */

/* What a child ends with whose program could not be started, where posix_spawn cannot say so itself. */
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

/* Runs gnuplot in dir, without a shell and without the user's own start-up file. */
static bool run_gnuplot(const char *dir, struct err *why)
{
    char *argv[] = {
        "gnuplot", "--default-settings", "-e", "output = 'recovery.png.tmp'", "recovery.gnuplot",
        NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int rc, status = 0;
    pid_t pid;

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
    return err_set(why, "gnuplot ended with status %d; `gnuplot recovery.gnuplot` there says why",
                   WEXITSTATUS(status));
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

static bool make_png(const char *dir, struct err *note, struct err *e)
{
    char *png = file_join(dir, "recovery.png", e);
    char *tmp = png ? mem_printf(e, "%s.tmp", png) : NULL;
    bool ok = tmp != NULL;

    if (ok && run_gnuplot(dir, note)) {
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
    return ok;
}

bool plot_recovery(const char *dir, const struct recovery_plot *p, struct err *note, struct err *e)
{
    *note = (struct err){0};
    if (!(p->base_score > 0 && isfinite(p->base_score)))
        return err_set(e,
                       "%s: no recovery curve: the base model's score is %g, and must be above 0 "
                       "to measure against",
                       dir, p->base_score);
    return write_file(dir, "recovery.tsv", p, print_data, e) &&
           write_file(dir, "recovery.gnuplot", p, print_script, e) && make_png(dir, note, e) &&
           signals_go_on(e);
}
