"""Sizes, tiles, tokens, windows and positions, as the functions of transformers compute them.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==5.24.0 pillow==13.0.0
    venv/bin/python make_sizes.py

Pictures are h pixels high and w wide. All files are lines of words with single blanks between them:
  next-settings.txt  name side patch rows sha256 n (H W)*n
                     LLaVA-NeXT with tiles of `side` pixels, patches of `patch`, n pinpoints
  next-sizes.txt     name h w H W tiles nh nw top bottom left right rows cols tokens
                     H W the best resolution; tiles with the base; nh nw the size before the padding
                     of top ... right; rows cols of the feature map that are kept; tokens in the text
  qwen-settings.txt  name factor min_pixels max_pixels rows sha256
  qwen-sizes.txt     name h w H W tokens
                     H W the size before the patches (smart_resize), a token for each factor x factor
                     pixels; 0 0 0 where the picture is refused (a ratio over 200)
  windows.txt        merge window patch pictures (gh gw)*pictures cells order*cells n bounds*n
                     get_vision_window_index of grids of gh x gw patches behind each other
  positions.txt      pictures (gh gw)*pictures T type*T delta t*T h*T w*T
                     get_rope_index with merge 2, of both families; a token's type is 1 in a picture and 0 in text
The sha256 is that of `rows` lines as in the sizes' file, but without the name, each ended by "\\n":
first of all h from 1 to 64 and in them all w from 1 to 64, then of 10,000 sizes that follow from
x = 1; x = (1664525 * x + 1013904223) mod 2^32; h or w = 1 + (x div 256) mod 6000, h before w. The
sizes' file itself holds some of those lines, the odd ones among them, and other sizes before them.
"""
import hashlib
import os
import random
import types

import numpy
import torch
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches, unpad_image
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.vision_utils import get_vision_window_index

HERE = os.path.dirname(os.path.abspath(__file__))

DEFAULT = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
NEXT = {"default": (336, 14, DEFAULT), "reversed": (336, 14, DEFAULT[::-1]),
        "other": (336, 14, [[1344, 336], [672, 672], [336, 1344], [1008, 1008], [336, 336]]),
        "small": (12, 4, [[12, 24], [24, 12], [24, 24], [36, 12], [12, 36]])}
QWEN = {"hub": (28, 3136, 12845056), "class": (28, 3136, 1003520), "few": (28, 200704, 1003520),
        "scoring": (28, 200704, 12845056), "small": (8, 256, 2560), "tight": (28, 100000, 110000)}

# Known before: h, w and what the line ends with. The script fails where transformers says otherwise.
NEXT_TABLE = [(480, 640, 36, 48, 2340), (640, 480, 48, 36, 2352), (672, 672, 48, 48, 2928), (336, 336, 24, 24, 1176),
              (32, 32, 24, 24, 1176), (1, 1, 24, 24, 1176), (300, 300, 24, 24, 1176), (375, 500, 36, 48, 2340),
              (899, 1024, 42, 48, 2634), (1080, 1920, 28, 48, 1948), (100, 1000, 8, 72, 1160),
              (1000, 100, 72, 8, 1224), (2, 3000, 0, 48, 576), (3000, 2, 24, 0, 600)]
NEXT_SMALL = [(24, 40, 37), (57, 33, 39), (9, 50, 19), (12, 12, 24), (30, 30, 51), (50, 7, 27), (100, 99, 51),
              (1, 60, 16), (60, 1, 12)]
QWEN_TABLE = {"hub": [(480, 640, 391), (1080, 1920, 2691), (336, 336, 144), (42, 70, 4), (28, 28, 4), (1, 1, 4),
                      (98, 98, 16), (13, 2600, 29), (4000, 3000, 15301), (6000, 6000, 16384), (13, 2601, 0),
                      (2600, 13, 29), (1, 200, 29), (1, 201, 0)],
              "few": [(1080, 1920, 1222), (100, 100, 256)],
              "small": [(24, 40, 15), (57, 33, 28), (9, 50, 6), (12, 20, 4), (100, 90, 36), (3, 600, 29), (3, 601, 0),
                        (4, 4, 4)]}


def sizes():
    x, out = 1, []

    def number():
        nonlocal x
        x = (1664525 * x + 1013904223) % 2**32
        return 1 + x // 256 % 6000
    for _ in range(10000):
        h = number()
        out.append((h, number()))
    return [(h, w) for h in range(1, 65) for w in range(1, 65)] + out


def next_row(setting, h, w):
    side, patch, pinpoints = setting
    best = select_best_resolution((h, w), pinpoints)
    picture = numpy.broadcast_to(numpy.uint8(0), (3, h, w))  # of no memory
    nh, nw = get_patch_output_size(picture, best, "channels_first")
    (top, bottom), (left, right) = LlavaNextImageProcessorPil._get_padding_size(None, (nh, nw), best)
    tiles = image_size_to_num_patches((h, w), pinpoints, side)
    n = side // patch
    rows, cols = unpad_image(torch.empty(1, best[0] // side * n, best[1] // side * n), (h, w)).shape[1:]
    tokens = n * n + rows * (cols + 1)
    assert tokens == counted(setting, h, w), (h, w)
    return h, w, *best, tiles, nh, nw, top, bottom, left, right, rows, cols, tokens


def counted(setting, h, w):
    """As transformers' processor counts them, with the keys that a published processor_config.json has."""
    side, patch, pinpoints = setting
    self = types.SimpleNamespace(image_processor=types.SimpleNamespace(image_grid_pinpoints=pinpoints),
                                 patch_size=patch, num_additional_image_tokens=1)
    self._get_unpadded_features = lambda *sizes: LlavaNextProcessor._get_unpadded_features(self, *sizes)
    return LlavaNextProcessor._get_number_of_features(self, h, w, side, side) - 1


def qwen_row(setting, h, w):
    factor, least, most = setting
    try:
        H, W = smart_resize(h, w, factor, least, most)
    except ValueError:
        assert max(h, w) / min(h, w) > 200
        return h, w, 0, 0, 0
    return h, w, H, W, H * W // factor**2


def next_traps(row, setting):
    """Where exact arithmetic gives another size than doubles do."""
    h, w, H, W, _, nh, nw = row[:7]
    return (nh if W * h < H * w else nw) != (min(-(-h * W // w), H) if W * h < H * w else min(-(-w * H // h), W))


def qwen_traps(row, setting):
    """Half way between two multiples, where the even one is taken; the limits; the refused."""
    h, w, H, W, _ = row
    factor = setting[0]
    return (h % factor * 2 == factor or w % factor * 2 == factor) and random.random() < 0.2 or H == 0


def lines(settings, row_of, traps, tables):
    """The lines of the settings' file and of the sizes'."""
    random.seed(1)
    heads, out = [], []
    every = sizes()
    for name, setting in settings.items():
        rows = [row_of(setting, h, w) for h, w in every]
        text = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        heads.append((name, setting, len(rows), hashlib.sha256(text.encode()).hexdigest()))
        trapped = [row for row in rows if traps(row, setting)]
        some = random.sample(trapped, min(12, len(trapped)))
        some += random.sample(rows[:4096], 8) + random.sample(rows[4096:], 20)
        table = [row_of(setting, *t[:2]) for t in tables.get(name, [])]
        for row, t in zip(table, tables.get(name, [])):
            assert row[-len(t[2:]):] == t[2:], (row, t)
        out += [(name, *row) for row in table + some]
        print(name, len(rows), "rows,", len(trapped), "traps")
    return heads, out


def write(name, rows):
    with open(os.path.join(HERE, name), "w") as f:
        f.writelines(" ".join(map(str, row)) + "\n" for row in rows)


def write_sizes():
    heads, out = lines(NEXT, next_row, next_traps, {"default": NEXT_TABLE, "small": NEXT_SMALL})
    write("next-sizes.txt", out)
    write("next-settings.txt", [(name, side, patch, n, digest, len(pinpoints), *sum(pinpoints, []))
                                for name, (side, patch, pinpoints), n, digest in heads])
    heads, out = lines(QWEN, qwen_row, qwen_traps, QWEN_TABLE)
    write("qwen-sizes.txt", out)
    write("qwen-settings.txt", [(name, *setting, n, digest) for name, setting, n, digest in heads])


# merge, window, patch, grids
WINDOWS = [(2, 112, 14, [(6, 10)]), (2, 112, 14, [(8, 8)]), (2, 112, 14, [(18, 8)]), (2, 112, 14, [(6, 10), (4, 4)]),
           (2, 24, 4, [(14, 8)]), (2, 112, 14, [(2, 58)]), (2, 112, 14, [(58, 2)]), (2, 112, 14, [(2, 2)]),
           (2, 112, 14, [(34, 46)]), (2, 8, 4, [(6, 10)]), (2, 16, 4, [(6, 10), (2, 12), (12, 12)]),
           (2, 400, 4, [(6, 10), (14, 8)]), (2, 24, 4, [(6, 10), (14, 8), (2, 12), (4, 4), (2, 58), (12, 12)]),
           (3, 84, 7, [(9, 15)]), (1, 28, 7, [(5, 6)])]
# by the number of the line: what the order begins with, and the bounds
WORKED = {0: ([0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 4, 9, 14], [0, 48, 60]), 1: (list(range(16)), [0, 64]),
          2: ([], [0, 64, 128, 144]), 3: ([0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 4, 9, 14, 15], [0, 48, 60, 76]),
          4: ([0, 1, 2, 4, 5, 6, 8, 9, 10, 3, 7, 11, 12, 13, 14, 16, 17, 18, 20, 21, 22, 15, 19, 23, 24, 25, 26, 27],
              [0, 36, 48, 84, 96, 108, 112])}


def write_windows():
    rows = []
    for i, (merge, window, patch, grids) in enumerate(WINDOWS):
        order, bounds = get_vision_window_index(torch.tensor([(1, *g) for g in grids]), merge, window, patch)
        order, bounds = order.tolist(), bounds.tolist()
        if i in WORKED:
            assert order[:len(WORKED[i][0])] == WORKED[i][0] and bounds == WORKED[i][1], (i, order, bounds)
        rows.append((merge, window, patch, len(grids), *sum(grids, ()), len(order), *order, len(bounds), *bounds))
    write("windows.txt", rows)


# numbers of text tokens, and grids of pictures in patches
POSITIONS = [[4, (4, 6), 4, (8, 4), 3], [12], [(4, 4)], [(4, 6), 5], [5, (4, 6)], [1, (2, 12), 1, (12, 2), 1],
             [2, (14, 8), 2, (6, 10), 2], [(2, 2), 1, (2, 2), 1, (2, 2)], [3, (2, 58), 7], [3, (58, 2), 7],
             [7, (12, 12), 2, (6, 10), 9, (4, 4), 6], [1, (34, 46), 20], [20, (6, 6), 2, (6, 6), 2, (6, 6), 2]]
WORKED_POSITIONS = {0: ["0 1 2 3 4 4 4 4 4 4 7 8 9 10 11 11 11 11 11 11 11 11 15 16 17",
                        "0 1 2 3 4 4 4 5 5 5 7 8 9 10 11 11 12 12 13 13 14 14 15 16 17",
                        "0 1 2 3 4 5 6 4 5 6 7 8 9 10 11 12 11 12 11 12 11 12 15 16 17"]}


def rope_index(kinds, grids):
    found = [rope_index_of(kind, kinds, grids) for kind in (Qwen2VLModel, Qwen2_5_VLModel)]
    assert found[0] == found[1]
    return found[0]


def rope_index_of(model, kinds, grids):
    config = types.SimpleNamespace(vision_config=types.SimpleNamespace(spatial_merge_size=2, tokens_per_second=2))
    self = types.SimpleNamespace(config=config)
    self.get_vision_position_ids = lambda *more, **named: model.get_vision_position_ids(self, *more, **named)
    grids = torch.tensor([(1, *g) for g in grids]) if grids else None
    positions, delta = model.get_rope_index(self, torch.zeros(1, len(kinds), dtype=torch.long),
                                            torch.tensor([kinds]), grids)
    return positions[:, 0].tolist(), delta.item()


def write_positions():
    rows = []
    for i, parts in enumerate(POSITIONS):
        kinds = sum(([0] * p if isinstance(p, int) else [1] * (p[0] * p[1] // 4) for p in parts), [])
        grids = [p for p in parts if isinstance(p, tuple)]
        positions, delta = rope_index(kinds, grids)
        if i in WORKED_POSITIONS:
            assert [" ".join(map(str, axis)) for axis in positions] == WORKED_POSITIONS[i] and delta == -7
        rows.append((len(grids), *sum(grids, ()), len(kinds), *kinds, delta, *sum(positions, [])))
    write("positions.txt", rows)


write_windows()
write_positions()
write_sizes()
