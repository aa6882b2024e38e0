/* bmprow.c - see bmprow.h. The layouts are those that Pillow reads. */
#include "data/picture/bmprow.h"
#include "base/err.h"

#include <stddef.h>
#include <string.h>

/* The lowest `bits` bits of v, scaled to 8 bits. */
static uint8_t scale(uint32_t v, uint32_t bits)
{
    uint32_t most = (1u << bits) - 1;

    return (uint8_t)((v & most) * 255 / most);
}

static void unpack_16(const struct bmprow_layout *l, const struct bmprow_palette *palette,
                      const uint8_t *in, int64_t n, uint8_t *out)
{
    const uint32_t green = l->at[0];

    (void)palette;
    for (int64_t i = 0; i < n; i++, in += 2, out += 3) {
        uint32_t v = in[0] | (uint32_t)in[1] << 8;

        out[0] = scale(v >> (5 + green), 5);
        out[1] = scale(v >> 5, green);
        out[2] = scale(v, 5);
    }
}

static void unpack_bytes(const struct bmprow_layout *l, const struct bmprow_palette *palette,
                         const uint8_t *in, int64_t n, uint8_t *out)
{
    const int channels = l->alpha ? 4 : 3;

    (void)palette;
    for (int64_t i = 0; i < n; i++, in += l->bits / 8, out += channels)
        for (int c = 0; c < channels; c++)
            out[c] = in[l->at[c]];
}

static void unpack_index(const struct bmprow_layout *l, const struct bmprow_palette *palette,
                         const uint8_t *in, int64_t n, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++, out += 3) {
        int64_t bit = i * l->bits;
        unsigned v = (unsigned)in[bit / 8] >> (8 - l->bits - bit % 8) & ((1u << l->bits) - 1);

        memcpy(out, palette->rgb[v], 3);
    }
}

static const struct bmprow_layout layouts[] = {
    {16, false, {0}, false, {5}, unpack_16},
    {24, false, {0}, false, {2, 1, 0}, unpack_bytes},
    {32, false, {0}, false, {2, 1, 0}, unpack_bytes},
    {16, true, {0xf800, 0x7e0, 0x1f}, false, {6}, unpack_16},
    {16, true, {0x7c00, 0x3e0, 0x1f}, false, {5}, unpack_16},
    {24, true, {0xff0000, 0xff00, 0xff}, false, {2, 1, 0}, unpack_bytes},
    {32, true, {0xff0000, 0xff00, 0xff, 0}, false, {2, 1, 0}, unpack_bytes},
    {32, true, {0xff000000, 0xff0000, 0xff00, 0}, false, {3, 2, 1}, unpack_bytes},
    {32, true, {0xff000000, 0xff00, 0xff, 0}, false, {3, 1, 0}, unpack_bytes},
    {32, true, {0xff000000, 0xff0000, 0xff00, 0xff}, true, {3, 2, 1, 0}, unpack_bytes},
    {32, true, {0xff, 0xff00, 0xff0000, 0xff000000}, true, {0, 1, 2, 3}, unpack_bytes},
    {32, true, {0xff0000, 0xff00, 0xff, 0xff000000}, true, {2, 1, 0, 3}, unpack_bytes},
    {32, true, {0xff000000, 0xff00, 0xff, 0xff0000}, true, {3, 1, 0, 2}, unpack_bytes},
    {32, true, {0, 0, 0, 0}, true, {2, 1, 0, 3}, unpack_bytes},
    {1, false, {0}, false, {0}, unpack_index},
    {4, false, {0}, false, {0}, unpack_index},
    {8, false, {0}, false, {0}, unpack_index},
};

const struct bmprow_layout *bmprow_find(int64_t bits, const uint32_t *mask)
{
    const size_t masks = bits == 32 ? 4 : 3; /* alpha counts only with 32 bits */

    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        const struct bmprow_layout *l = &layouts[i];

        if (l->bits == bits && l->masked == (mask != NULL) &&
            (!mask || memcmp(l->mask, mask, masks * sizeof *mask) == 0))
            return l;
    }
    return NULL;
}

const struct bmprow_layout *bmprow_indexed(int64_t bits)
{
    CHECK(bits == 1 || bits == 4 || bits == 8);
    return bmprow_find(bits, NULL);
}
