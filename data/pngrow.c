/* pngrow.c - see pngrow.h; the PNG standard's chapters 9 (filters) and 13 (samples). */
#include "data/pngrow.h"

#include <stdlib.h>
#include <string.h>

int pngrow_channels(const struct pngrow_format *f)
{
    return f->type == PNG_GRAY_ALPHA || f->type == PNG_RGB_ALPHA || f->keyed || f->clear ? 4 : 3;
}

size_t pngrow_bytes(const struct pngrow_format *f, int64_t n)
{
    return ((size_t)n * (size_t)(f->samples * f->depth) + 7) / 8;
}

static void undo_left(uint8_t *row, const uint8_t *prior, size_t n, size_t pixel)
{
    (void)prior;
    for (size_t i = pixel; i < n; i++)
        row[i] = (uint8_t)(row[i] + row[i - pixel]);
}

static void undo_up(uint8_t *row, const uint8_t *prior, size_t n, size_t pixel)
{
    (void)pixel;
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        row[i] = (uint8_t)(row[i] + prior[i]);
}

static void undo_average(uint8_t *row, const uint8_t *prior, size_t n, size_t pixel)
{
    for (size_t i = 0; i < n && i < pixel; i++)
        row[i] = (uint8_t)(row[i] + prior[i] / 2);
    for (size_t i = pixel; i < n; i++)
        row[i] = (uint8_t)(row[i] + (row[i - pixel] + prior[i]) / 2);
}

/* a is left, b above, c above left: the one that a + b - c is nearest to, in this order. */
static int paeth(int a, int b, int c)
{
    int pa = abs(b - c), pb = abs(a - c), pc = abs(a + b - 2 * c);

    if (pa <= pb && pa <= pc) return a;
    return pb <= pc ? b : c;
}

static void undo_paeth(uint8_t *row, const uint8_t *prior, size_t n, size_t pixel)
{
    for (size_t i = 0; i < n && i < pixel; i++)
        row[i] = (uint8_t)(row[i] + prior[i]);
    for (size_t i = pixel; i < n; i++)
        row[i] = (uint8_t)(row[i] + paeth(row[i - pixel], prior[i], prior[i - pixel]));
}

bool pngrow_unfilter(int filter, uint8_t *row, const uint8_t *prior, size_t n, size_t pixel)
{
    static void (*const undo[])(uint8_t *, const uint8_t *, size_t,
                                size_t) = {NULL, undo_left, undo_up, undo_average, undo_paeth};

    if (filter < 0 || filter >= (int)(sizeof undo / sizeof undo[0])) return false;
    if (undo[filter]) undo[filter](row, prior, n, pixel);
    return true;
}

/* Sample i of a row, with all its bits. */
static unsigned sample(const uint8_t *row, int64_t i, int depth)
{
    int64_t bit = i * depth;

    if (depth == 8) return row[i];
    if (depth == 16) return (unsigned)row[2 * i] << 8 | row[2 * i + 1];
    return (unsigned)row[bit / 8] >> (8 - depth - bit % 8) & ((1u << depth) - 1);
}

/* A sample in 8 bits. Pillow's I;16 to RGB: 16-bit gray over 255 becomes 255. */
static uint8_t narrow(const struct pngrow_format *f, unsigned v)
{
    if (f->depth < 8) return (uint8_t)(v * (255 / ((1u << f->depth) - 1)));
    if (f->depth == 8) return (uint8_t)v;
    if (f->type == PNG_GRAY) return (uint8_t)(v < 255 ? v : 255);
    return (uint8_t)(v >> 8);
}

static void expand_index(const struct pngrow_format *f, const uint8_t *row, int64_t n, uint8_t *out)
{
    const size_t ch = (size_t)pngrow_channels(f);

    for (int64_t i = 0; i < n; i++, out += ch)
        memcpy(out, f->palette[sample(row, i, f->depth)], ch);
}

static void expand_samples(const struct pngrow_format *f, const uint8_t *row, int64_t n,
                           uint8_t *out)
{
    const bool gray = f->type == PNG_GRAY || f->type == PNG_GRAY_ALPHA;
    const int ch = pngrow_channels(f), colours = gray ? 1 : 3;

    for (int64_t i = 0; i < n; i++, out += ch) {
        bool clear = f->keyed;

        for (int c = 0; c < colours; c++) {
            unsigned v = sample(row, i * f->samples + c, f->depth);

            clear = clear && v == f->key[c];
            out[c] = narrow(f, v);
        }
        if (gray) out[1] = out[2] = out[0];
        if (f->samples > colours)
            out[3] = narrow(f, sample(row, i * f->samples + colours, f->depth));
        else if (ch == 4)
            out[3] = clear ? 0 : 255;
    }
}

void pngrow_expand(const struct pngrow_format *f, const uint8_t *row, int64_t n, uint8_t *out)
{
    if (f->type == PNG_INDEX)
        expand_index(f, row, n, out);
    else if (f->depth == 8 && f->samples == pngrow_channels(f))
        memcpy(out, row, (size_t)(n * f->samples));
    else
        expand_samples(f, row, n, out);
}
