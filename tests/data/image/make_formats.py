#!/usr/bin/env python3
"""Makes the WebP, GIF and BMP pictures in this directory and what is expected of them, and of damaged
files of all formats: formats.txt and damaged.txt.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 numpy==2.4.6
    venv/bin/python tests/data/image/make_formats.py

It comes after make_golden.py, whose PNG and JPEG files it damages.

formats.txt, one picture a line, all of it by Pillow (first frame, turned upright by exif_transpose):
    file width height channels sha256(as read) sha256(alpha dropped) sha256(on white)
or  file refused
damaged.txt, one damage a line:
    file length fix edits width height sha256(alpha dropped, 16 digits) sha256(on white, 16 digits)
or  file length fix edits refused
The file is cut to `length` bytes, or filled up with the letter U, then each edit POSITION=BYTE (hex) is done, or
none (-); with fix 1 the CRCs of a PNG's chunks are made right again.
"""
import glob
import hashlib
import io
import os
import random
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
RNG = np.random.RandomState(11)
DAMAGES = 1000
warnings.simplefilter("ignore")


def noise(h, w, s=3):
    y, x, c = np.mgrid[0:h, 0:w, 0:s]
    v = 0.5 + 0.35 * np.sin(x * 0.31 + c) * np.cos(y * 0.23 - c) + 0.3 * (RNG.rand(h, w, s) - 0.5)
    return np.clip(v * 256, 0, 255).astype("u1")


def put(name, data):
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(data)
    return name


# ---- BMP: header sizes, bits and masks that writers have, and some that they should not have

RGB565, RGB555 = (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)
RGB888 = (0xFF0000, 0xFF00, 0xFF)


def bmp(name, bits, header=40, comp=0, masks=(), colours=0, palette=None, size=(13, 7), down=False, px=None, offset=None):
    w, h = size
    if palette is None and bits <= 8:
        palette = RNG.randint(0, 256, (colours or 1 << bits, 3))
    if px is None:
        px = RNG.randint(0, 256, ((w * bits + 31) // 32 * 4 * h)).astype("u1").tobytes()
    if header == 12:
        head = struct.pack("<IHHHH", 12, w, h, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", header, w, -h if down else h, 1, bits, comp, len(px), 2835, 2835, colours, 0)
        if comp == 3 and header == 40:
            head += struct.pack("<III", *masks)
        elif header > 40:
            head = (head + struct.pack("<IIII", *(tuple(masks) + (0,) * 4)[:4]) + bytes(80))[:header]
    table = b"" if palette is None else b"".join(bytes(map(int, c[::-1])) + (b"" if header == 12 else b"\0") for c in palette)
    where = 14 + len(head) + len(table) if offset is None else offset
    return put(name, b"BM" + struct.pack("<IHHI", 14 + len(head) + len(table) + len(px), 0, 0, where) + head + table + px)


def make_bmps():
    ramp = np.repeat(np.arange(256)[:, None], 3, axis=1)
    out = [bmp(f"os2_{b}.bmp", b, header=12) for b in (1, 4, 8, 24)]
    out += [bmp(f"info_{b}.bmp", b) for b in (1, 4, 8, 16, 24, 32)]
    out += [bmp(f"down_{b}.bmp", b, down=True) for b in (1, 8, 24, 32)]
    out += [
        bmp("few_8.bmp", 8, colours=5),
        bmp("few_4.bmp", 4, colours=3),
        bmp("gray_8.bmp", 8, palette=ramp),
        bmp("gray_4.bmp", 4, palette=ramp[:16]),
        bmp("gray_4_narrow.bmp", 4, palette=ramp[:16], size=(4, 5)),
        bmp("two_1.bmp", 1, palette=ramp[[0, 255]]),
        bmp("two_1_swapped.bmp", 1, palette=ramp[[255, 0]]),
        bmp("two_8.bmp", 8, colours=2, palette=ramp[[0, 255]]),
        bmp("one_8.bmp", 8, colours=1, palette=ramp[:1]),
        bmp("many_8.bmp", 8, colours=257),
        bmp("no_offset_8.bmp", 8, offset=0),
        bmp("no_offset_24.bmp", 24, offset=0),
        bmp("header_offset_4.bmp", 4, offset=54),
        bmp("header_offset_565.bmp", 16, comp=3, masks=RGB565, offset=54),
        bmp("far_24.bmp", 24, offset=60, px=bytes(6) + RNG.randint(0, 256, 280).astype("u1").tobytes()),
        bmp("565.bmp", 16, comp=3, masks=RGB565),
        bmp("555.bmp", 16, comp=3, masks=RGB555),
        bmp("444.bmp", 16, comp=3, masks=(0xF00, 0xF0, 0xF)),
        bmp("888.bmp", 24, comp=3, masks=RGB888),
        bmp("v2_565.bmp", 16, header=52, comp=3, masks=RGB565),
        bmp("v3_alpha.bmp", 32, header=56, comp=3, masks=RGB888 + (0xFF000000,)),
        bmp("v4_alpha.bmp", 32, header=108, comp=3, masks=RGB888 + (0xFF000000,)),
        bmp("v5_alpha_down.bmp", 32, header=124, comp=3, masks=RGB888 + (0xFF000000,), down=True),
        bmp("v4_no_alpha.bmp", 32, header=108, comp=3, masks=RGB888),
        bmp("v5_raw.bmp", 32, header=124),
        bmp("os2v2_24.bmp", 24, header=64),
        bmp("os2v2_8.bmp", 8, header=64),
        bmp("bits_2.bmp", 2),
        bmp("jpeg_inside.bmp", 24, comp=4),
        bmp("header_30.bmp", 24, header=30),
    ]
    for i, m in enumerate([RGB888, (0xFF000000, 0xFF0000, 0xFF00), (0xFF000000, 0xFF00, 0xFF), (0, 0, 0), (0xFF, 0xFF00, 0xFF0000)]):
        out.append(bmp(f"masks_{i}.bmp", 32, comp=3, masks=m))
    for i, m in enumerate([(0xFF000000, 0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000, 0xFF000000), (0xFF000000, 0xFF00, 0xFF, 0xFF0000)]):
        out.append(bmp(f"alpha_{i}.bmp", 32, header=56, comp=3, masks=m))
    # Runs, colours as they are (an odd number: filled up), a delta, a row cut short, one too long, the end.
    rle8 = bytes([5, 9, 0, 3, 1, 2, 3, 0, 5, 7, 0, 0, 13, 200, 0, 0, 2, 8, 0, 2, 3, 1, 4, 6, 0, 0, 20, 33, 0, 0, 0, 0])
    rest = bytes([13, 4, 0, 0, 0, 13]) + bytes(range(13)) + bytes([0, 13, 77, 0, 0, 0, 1])
    rle4 = bytes([5, 0x9A, 0, 5, 0x12, 0x34, 0x50, 0, 3, 0x77, 0, 0, 13, 0xC8, 0, 0, 2, 8, 0, 2, 3, 1, 4, 0x6F, 0, 0, 20, 0x33, 0, 0])
    rest4 = bytes([13, 0x45, 0, 0, 0, 13, 1, 2, 3, 4, 5, 6, 0x70, 0, 13, 0x7E, 0, 0, 13, 0x21, 0, 0, 0, 1])
    out += [
        bmp("rle8.bmp", 8, comp=1, px=rle8 + rest),
        bmp("rle8_gray.bmp", 8, comp=1, palette=ramp, px=rle8 + rest),
        bmp("rle8_two.bmp", 8, comp=1, colours=2, palette=ramp[[0, 255]], px=rle8 + rest),
        bmp("rle8_down.bmp", 8, comp=1, down=True, px=rle8 + rest),
        bmp("rle8_short.bmp", 8, comp=1, px=rle8 + b"\0\1"),
        bmp("rle4.bmp", 4, comp=2, px=rle4 + rest4),
        bmp("rle4_in_8.bmp", 8, comp=2, px=rle4 + rest4),
        bmp("rle8_in_24.bmp", 24, comp=1, px=rle8 + rest),
    ]
    return out


# ---- GIF


def lzw(px, bits, defer=False):
    """defer: a full table is kept for ever."""
    out, acc, n, clear = bytearray(), 0, 0, 1 << bits

    def emit(code):
        nonlocal acc, n
        acc |= code << n
        n += size
        while n >= 8:
            out.append(acc & 255)
            acc >>= 8
            n -= 8

    size, table, new, cur = bits + 1, {(i,): i for i in range(clear)}, clear + 2, ()
    emit(clear)
    for p in px:
        if cur + (p,) in table:
            cur += (p,)
            continue
        emit(table[cur])
        if new < 4096:
            table[cur + (p,)] = new
            size += new == 1 << size and size < 12
            new += 1
        elif not defer:
            emit(clear)
            size, table, new = bits + 1, {(i,): i for i in range(clear)}, clear + 2
        cur = (p,)
    emit(table[cur])
    size += new == 1 << size and size < 12
    emit(clear + 1)
    if n:
        out.append(acc & 255)
    return bytes(out)


def blocks(data, n=255):
    return b"".join(bytes([len(data[i : i + n])]) + data[i : i + n] for i in range(0, len(data), n)) + b"\0"


def gif(name, screen=(13, 9), box=None, bits=3, table=None, local=None, clear=None, interlaced=False, code=None, px=None,
        before=b"", after=b"", version=b"GIF89a", defer=False, step=255):
    x, y, w, h = box or (0, 0) + screen
    if px is None:
        px = noise(h, w, 1)[..., 0].astype(int) >> (8 - bits)
    rows = [px[i] for p, s in ((0, 8), (4, 8), (2, 4), (1, 2)) for i in range(p, h, s)] if interlaced else px
    flags = lambda t: 0x80 | (len(t) // 3).bit_length() - 2 if t else 0
    data = version + struct.pack("<HHBBB", *screen, flags(table), 2, 0) + (table or b"") + before
    if clear is not None:
        data += b"!\xf9\4" + struct.pack("<BHBB", 1, 5, clear, 0)
    data += b"," + struct.pack("<HHHHB", x, y, w, h, flags(local) | (0x40 if interlaced else 0)) + (local or b"")
    codes = lzw([int(v) for r in rows for v in r], code or max(2, bits), defer)
    return put(name, data + bytes([code or max(2, bits)]) + blocks(codes, step) + after + b";")


def make_gifs():
    colours = lambda n: RNG.randint(0, 256, 3 * n).astype("u1").tobytes()
    grays = lambda n: b"".join(bytes([i] * 3) for i in range(n))
    second = b"!\xf9\4\x08\5\0\0\0," + struct.pack("<HHHHB", 1, 1, 2, 2, 0) + b"\2" + blocks(lzw([1, 2, 3, 0], 2))
    out = [
        gif("global.gif", table=colours(8)),
        gif("local.gif", local=colours(8)),
        gif("both.gif", table=colours(8), local=colours(8)),
        gif("none.gif"),
        gif("grays.gif", bits=8, table=grays(256)),
        gif("grays_local.gif", table=colours(8), local=grays(8)),
        gif("grays_few.gif", bits=4, table=grays(4)),
        gif("few.gif", bits=4, table=colours(4)),
        gif("87a.gif", table=colours(8), version=b"GIF87a"),
        gif("clear.gif", table=colours(8), clear=3),
        gif("clear_gray.gif", clear=3),
        gif("clear_unused.gif", table=colours(8), clear=200),
        gif("offset.gif", table=colours(8), box=(2, 3, 7, 4)),
        gif("offset_clear.gif", table=colours(8), box=(2, 3, 7, 4), clear=5),
        gif("offset_gray_clear.gif", box=(2, 3, 7, 4), clear=5),
        gif("outside.gif", table=colours(8), box=(8, 6, 9, 7)),
        gif("outside_clear.gif", table=colours(8), box=(8, 6, 9, 7), clear=1),
        gif("bits_1.gif", bits=1, table=colours(2)),
        gif("bits_8.gif", bits=8, table=colours(256)),
        gif("code_11.gif", bits=8, table=colours(256), code=11),
        gif("code_12.gif", bits=2, table=colours(4), code=12),
        gif("animated.gif", table=colours(8), clear=2, after=second),
        gif("extensions.gif", table=colours(8), before=b"!\xfe" + blocks(b"made by hand" * 40) + b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"),
        gif("empty_comment.gif", table=colours(8), before=b"!\xfe\0"),
        gif("full_table.gif", (80, 75), bits=8, table=colours(256)),
        gif("full_table_kept.gif", (80, 75), bits=7, table=colours(128), defer=True),
        gif("long_runs.gif", (120, 90), bits=2, table=colours(4), px=np.full((90, 120), 2)),
        gif("small_blocks.gif", table=colours(8), step=1),
    ]
    for h in (1, 2, 3, 5, 9, 16):
        out.append(gif(f"interlaced_{h}.gif", (7, h), table=colours(8), interlaced=True))
    out.append(gif("interlaced_offset.gif", (13, 20), (3, 5, 6, 11), table=colours(8), interlaced=True, clear=0))
    return out


# ---- WebP


def exif(value):
    return b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, value, 0, 0)


def webp(name, im, **options):
    buf = io.BytesIO()
    im.save(buf, "WEBP", **options)
    return put(name, buf.getvalue())


def webp_frame(name, canvas, at, im, flags, **options):
    """An animation of one frame that does not fill its canvas."""
    buf = io.BytesIO()
    im.save(buf, "WEBP", **options)
    data, pos, frame = buf.getvalue(), 12, b""
    while pos < len(data):
        n = struct.unpack("<I", data[pos + 4 : pos + 8])[0]
        if data[pos : pos + 4] in (b"VP8 ", b"VP8L", b"ALPH"):
            frame += data[pos : pos + 8 + n + n % 2]
        pos += 8 + n + n % 2
    u24 = lambda v: struct.pack("<I", v)[:3]
    chunk = lambda tag, body: tag + struct.pack("<I", len(body)) + body
    head = u24(at[0] // 2) + u24(at[1] // 2) + u24(im.width - 1) + u24(im.height - 1) + u24(100) + b"\0"
    body = chunk(b"VP8X", bytes([flags, 0, 0, 0]) + u24(canvas[0] - 1) + u24(canvas[1] - 1))
    body += chunk(b"ANIM", struct.pack("<IH", 0xFF102030, 0)) + chunk(b"ANMF", head + frame)
    return put(name, b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)


def make_webps():
    rgb = lambda w, h: Image.fromarray(noise(h, w))

    def rgba(w, h):
        a = noise(h, w, 4)
        a[: h // 3 + 1, :, 3] = RNG.randint(0, 2, (h // 3 + 1, w)) * 255
        return Image.fromarray(a)

    out = [
        webp("lossy.webp", rgb(29, 23), quality=60),
        webp("lossy_best.webp", rgb(16, 16), quality=100),
        webp("lossy_1x1.webp", rgb(1, 1), quality=60),
        webp("lossy_alpha.webp", rgba(29, 23), quality=60),
        webp("lossy_alpha_few.webp", rgba(29, 23), quality=60, alpha_quality=10),
        webp("lossless.webp", rgb(13, 9), lossless=True),
        webp("lossless_alpha.webp", rgba(13, 9), lossless=True),
        webp("lossless_exact.webp", rgba(13, 9), lossless=True, exact=True),
        webp("lossless_few.webp", rgb(29, 23).quantize(5), lossless=True),
        webp("lossless_1x40.webp", rgb(1, 40), lossless=True),
        webp("animated.webp", rgb(13, 9), save_all=True, append_images=[rgb(13, 9)], duration=50),
        webp("animated_alpha.webp", rgba(13, 9), save_all=True, append_images=[rgba(13, 9)], duration=50, lossless=True),
        webp_frame("offset.webp", (21, 17), (4, 6), rgb(9, 7), 2, quality=80),
        webp_frame("offset_alpha.webp", (21, 17), (4, 6), rgba(9, 7), 0x12, lossless=True),
    ]
    for o in range(2, 9):
        out.append(webp(f"exif{o}.webp", rgb(13, 9) if o % 2 else rgba(13, 9), exif=exif(o), lossless=o > 4))
    return out


# ---- what Pillow makes of them


def sha(a, digits=64):
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()[:digits]


def read(data):
    """Channels and pixels as read, alpha dropped and on white; None where Pillow refuses the file."""
    try:
        im = Image.open(io.BytesIO(data))
        im.load()
        try:
            im = ImageOps.exif_transpose(im)
        except SyntaxError:
            pass  # a damaged EXIF block: the picture is read as it is
        alpha = "A" in im.getbands() or im.info.get("transparency") is not None
        rgba, drop = im.convert("RGBA"), np.array(im.convert("RGB"))
        white = Image.alpha_composite(Image.new("RGBA", im.size, (255,) * 4), rgba).convert("RGB")
        return (np.array(rgba), drop, np.array(white)) if alpha else (drop, drop, drop)
    except Exception:  # whatever it says: the file is not read
        return None


def load(name):
    with open(os.path.join(HERE, name), "rb") as f:
        return f.read()


def write_formats(names):
    with open(os.path.join(HERE, "formats.txt"), "w") as f:
        for name in names:
            got = read(load(name))
            if got is None:
                f.write(f"{name} refused\n")
                continue
            h, w, c = got[0].shape
            f.write(f"{name} {w} {h} {c} {sha(got[0])} {sha(got[1])} {sha(got[2])}\n")


def fix_crcs(data):
    data, pos = bytearray(data), 8
    while pos + 12 <= len(data):
        n = struct.unpack(">I", data[pos : pos + 4])[0]
        if n > len(data) - pos - 12:
            break
        data[pos + 8 + n : pos + 12 + n] = struct.pack(">I", zlib.crc32(data[pos + 4 : pos + 8 + n]))
        pos += n + 12
    return bytes(data)


def draw_damage(r, data):
    """A length and edits: cut anywhere, cut near the end, filled up, or some bytes changed."""
    kind, n = r.random(), len(data)
    if kind < 0.15:
        return r.randrange(n), []
    if kind < 0.4:
        return n - r.randint(1, min(n, 20)), []
    if kind < 0.45:
        return n + r.randint(1, 20), []
    near = n if r.random() < 0.6 else min(n, 80)
    edits = [(r.randrange(near), r.randrange(256)) for _ in range(r.randint(1, 3))]
    return n, edits


def damaged(data, length, fix, edits):
    data = bytearray(data[:length] + b"U" * (length - len(data)))
    for at, byte in edits:
        data[at] = byte
    return fix_crcs(data) if fix else bytes(data)


# Where we differ, on purpose: transparent colours of these (png.h), and pictures that are too large for their file.
SKIPPED = ("gray1_trns", "gray2_trns", "gray4_trns", "gray16_trns", "rgb16_trns", "sweep", "size4000")
TRUSTED = 1 << 24


def write_damaged(names):
    r = random.Random(5)
    lines = []
    while len(lines) < DAMAGES:
        name = r.choice(names)
        data = load(name)
        length, edits = draw_damage(r, data)
        fix = int(name.endswith(".png") and r.random() < 0.6)
        bad = damaged(data, length, fix, edits)
        if bad[:2] != data[:2]:
            continue  # another format, or none
        got = read(bad)
        what = " ".join(f"{at}={byte:02x}" for at, byte in edits).replace(" ", ",") or "-"
        line = f"{name} {length} {fix} {what} "
        if got is None:
            lines.append(line + "refused\n")
        elif got[1].shape[0] * got[1].shape[1] <= TRUSTED:
            lines.append(line + f"{got[1].shape[1]} {got[1].shape[0]} {sha(got[1], 16)} {sha(got[2], 16)}\n")
    with open(os.path.join(HERE, "damaged.txt"), "w") as f:
        f.writelines(lines)


def main():
    made = make_bmps() + make_gifs() + make_webps()
    write_formats(made)
    old = [os.path.basename(p) for e in ("png", "jpg") for p in sorted(glob.glob(os.path.join(HERE, "*." + e)))]
    write_damaged(made + [n for n in old if not n.startswith(SKIPPED) and "sweep" not in n])


main()
