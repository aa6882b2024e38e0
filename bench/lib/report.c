/* report.c - see report.h. */
#include "bench/lib/report.h"
#include "bench/lib/measure.h"
#include "bench/rows.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The first line of a command's output, or "". */
static void first_line(const char *command, char *line, size_t size)
{
    FILE *fp = popen(command, "r");

    line[0] = '\0';
    if (fp && fgets(line, (int)size, fp)) line[strcspn(line, "\n")] = '\0';
    if (fp) pclose(fp);
}

static void print_machine(FILE *fp, const struct report *r)
{
    static const char *const flags[] = {"avx2", "avx512f", "avx512_bf16", "amx_bf16"};
    const char *core = getenv("OPENBLAS_CORETYPE");
    char line[512], command[1200];

    first_line("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo", line, sizeof line);
    fprintf(fp, "- %s, %ld cores, %.0f GiB;", line, sysconf(_SC_NPROCESSORS_ONLN),
            (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 0x1p30);
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        snprintf(command, sizeof command, "grep -m1 -ow %s /proc/cpuinfo", flags[i]);
        first_line(command, line, sizeof line);
        fprintf(fp, " %s %s%s", flags[i], *line ? "yes" : "no",
                i + 1 < sizeof flags / sizeof *flags ? "," : "\n");
    }
    fprintf(fp, "- %s; OPENBLAS_CORETYPE=%s\n", openblas_get_config(), core ? core : "(not set)");
    fprintf(fp, "- compiler %s\n", __VERSION__);
    snprintf(command, sizeof command,
             "'%s' -c 'import torch, transformers, PIL; print(torch.__version__, \"transformers\", "
             "transformers.__version__, \"Pillow\", PIL.__version__)' 2>/dev/null",
             r->python);
    if (*r->python) first_line(command, line, sizeof line);
    fprintf(fp, "- PyTorch %s\n", *r->python ? line : "is not here: our side alone");
    first_line("cut -d' ' -f1-3 /proc/loadavg", line, sizeof line);
    fprintf(fp, "- load average at the start %s\n", line);
}

/* "165.2 GFLOP/s in fp32, 1800.0 in bf16" */
static void print_gemm(FILE *fp, const double gemm[2])
{
    fprintf(fp, "%.1f GFLOP/s in fp32", gemm[GEMM_F32]);
    if (gemm[GEMM_BF16] > 0) fprintf(fp, ", %.1f in bf16", gemm[GEMM_BF16]);
}

bool report_begin(struct report *r, struct err *e)
{
    FILE *fp = r->out.fp;

    fprintf(fp, "# Measurements\n\n`make bench%s`, %d thread%s on each side:\n\n",
            r->brief ? "-short" : "", r->threads, r->threads > 1 ? "s" : "");
    print_machine(fp, r);
    fprintf(fp, "- one %d x %d product: ", r->gemm_side, r->gemm_side);
    print_gemm(fp, r->gemm);
    fprintf(
        fp,
        " before (the rows' shares are of its rate between their repeats%s)\n- a roofline is what "
        "a step must read, at the best rate at which memory was read between a row's repeats, then "
        "what it must multiply at the product's\n\nRows are in fp32 where they do not say "
        "bf16. Median of the repeats, lowest and highest in brackets. Both sides are open at a "
        "time and take turns, and \"times as fast\" is taken turn by turn. Memory is the peak "
        "of the whole process. Where both compute a number (loss, mean of pixels or features), "
        "they agree within %g (in bf16 %g), or this file would not be here.%s\n\n",
        r->gemm[GEMM_BF16] > 0 ? ", each of its dtype's" : "", precisions[GEMM_F32].tolerance,
        precisions[GEMM_BF16].tolerance,
        r->brief ? " **The short form: sizes are tiny, its times mean nothing.**" : "");
    fprintf(fp, "| | ours | PyTorch | times as fast | memory, ours | PyTorch | |\n"
                "|---|--:|--:|--:|--:|--:|---|\n");
    return !ferror(fp) || err_set(e, "%s: cannot be written", r->out.path);
}

void report_group(struct report *r, const char *group)
{
    fprintf(r->out.fp, "| **%s** | | | | | | |\n", group);
}

/* "12.3 (11.9 to 12.8)" */
static void print_values(FILE *fp, const double *v, int n, const char *unit)
{
    double sorted[REPEATS_MOST], m;
    int digits;

    memcpy(sorted, v, (size_t)n * sizeof *v);
    m = median(sorted, n);
    digits = m >= 100 ? 0 : m >= 10 ? 1 : m >= 1 ? 2 : 3;
    fprintf(fp, "%.*f%s%s", digits, m, *unit ? " " : "", unit);
    if (n > 1) fprintf(fp, " (%.*f to %.*f)", digits, sorted[0], digits, sorted[n - 1]);
}

static void print_peak(FILE *fp, const struct child *c)
{
    const double *peak = child_fact(c, "peak_mib");

    if (peak)
        fprintf(fp, " | %.0f MiB", *peak);
    else
        fprintf(fp, " | -");
}

/* The share of a side's roofline, of work that reads more than it multiplies. */
static void print_roofline(FILE *fp, double memory, double gemm, const struct child *c, double rate)
{
    const double *bytes = child_fact(c, "read_bytes");
    const double *flop = child_fact(c, "flop"), *units = child_fact(c, "units");
    double roof = *units / (*bytes / (1e9 * memory) + *flop / (1e9 * gemm));

    fprintf(fp, "%.0f %% of the roofline of %.3g", 100 * rate / roof, roof);
}

/* The work per second, and its share of a product's rate or of the roofline. */
static void print_rate(FILE *fp, const struct row *row, const struct result *x)
{
    const double *flop = child_fact(&x->side[0], "flop"), *units = child_fact(&x->side[0], "units");
    double sorted[REPEATS_MOST], most;

    if (!flop || !units || row->seconds) return;
    memcpy(sorted, x->product, (size_t)x->n * sizeof *sorted);
    most = median(sorted, x->n);
    for (int k = 0; k < x->sides; k++) {
        memcpy(sorted, x->value[k], (size_t)x->n * sizeof *sorted);
        double rate = median(sorted, x->n);
        if (k) fprintf(fp, " and ");
        if (child_fact(&x->side[k], "read_bytes")) {
            print_roofline(fp, x->memory, most, &x->side[k], rate);
            continue;
        }
        rate *= 1e-9 * *flop / *units;
        fprintf(fp, "%.1f GFLOP/s (%.0f %% of %.1f)", rate, 100 * rate / most, most);
    }
    if (x->memory > 0) fprintf(fp, ", memory at %.1f GB/s", x->memory);
}

/* If bf16 is not native to the CPU. PyTorch's bf16 products would take minutes
 * (bench/torch_side.py). */
static void print_emulated(FILE *fp, const struct report *r, const struct row *row, int sides)
{
    if (r->gemm[row->dtype] > 0) return;
    fprintf(fp,
            " **this CPU has no instructions for bf16: emulated%s, operands are rounded and "
            "multiplied in fp32, and the share is of the fp32 rate**",
            sides > 1 ? " on both sides" : "");
}

/* Facts without a column of their own: those of both sides, then those of the other side only. */
static void print_facts(FILE *fp, const struct result *x)
{
    static const char *const known[] = {"check",    "norm",       "flop",
                                        "units",    "samples",    "computed_cache_mib",
                                        "peak_mib", "read_bytes", NULL};

    for (int side = 0; side < x->sides; side++)
        for (int i = 0; i < x->side[side].n_facts; i++) {
            const struct fact *f = &x->side[side].facts[i];
            const double *other = x->sides > 1 ? child_fact(&x->side[!side], f->name) : NULL;
            int k = 0;
            while (known[k] && strcmp(known[k], f->name) != 0)
                k++;
            if (known[k] || (side && other)) continue;
            fprintf(fp, " %s %.4g", f->name, f->value);
            if (other) fprintf(fp, " / %.4g", *other);
        }
}

void report_row(struct report *r, const struct row *row, const struct result *x)
{
    FILE *fp = r->out.fp;
    double ratio[REPEATS_MOST];

    fprintf(stderr, "%s\n", row->title);
    fprintf(fp, "| %s | ", row->title);
    print_values(fp, x->value[0], x->n, row->unit);
    fprintf(fp, " | ");
    for (int i = 0; i < x->n; i++)
        ratio[i] = row->seconds ? x->value[1][i] / x->value[0][i] : x->value[0][i] / x->value[1][i];
    if (x->sides > 1) {
        print_values(fp, x->value[1], x->n, row->unit);
        fprintf(fp, " | ");
        print_values(fp, ratio, x->n, "");
    } else {
        fprintf(fp, "- | -");
    }
    print_peak(fp, &x->side[0]);
    print_peak(fp, &x->side[1]);
    fprintf(fp, " | ");
    if (row->how == REPEAT) {
        print_rate(fp, row, x);
        print_emulated(fp, r, row, x->sides);
        print_facts(fp, x);
    }
    fprintf(fp, " |\n");
    fflush(fp);
}

bool report_end(struct report *r, const double gemm[2], struct err *e)
{
    char line[64];

    first_line("cut -d' ' -f1-3 /proc/loadavg", line, sizeof line);
    fprintf(r->out.fp, "\nAfter it: the product at ");
    print_gemm(r->out.fp, gemm);
    fprintf(r->out.fp, ", load average %s.\n", line);
    return file_out_commit(&r->out, e);
}
