"""Digests of the pixels of pictures of real sizes, as transformers' Pillow processors make them.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==5.24.0 numpy==2.4.6 \\
        pillow==13.0.0                       # no torchvision
    venv/bin/python make_pixels.py

pixels.txt, one picture a line, h pixels high and w wide:
    next side h w tiles sha256(8-bit stage) sha256(float32)
        LlavaNextImageProcessorPil with tiles of `side` pixels and the published pinpoints.
        The digests are over [tiles, 3, side, side].
    qwen min_pixels max_pixels h w H W sha256(8-bit stage) sha256(float32)
        Qwen2VLImageProcessorPil with patches of 14, merged by 2 x 2. The 8-bit stage is the
        resized picture [3, H, W], the floats are the rows [H/14 * W/14, 3*2*14*14].
Floats are little-endian, all digests are over the values as they lie in memory. The picture is that of
tests/data/image/make_golden.py's drawn(), which tests/test_processor.c has as well, of whole numbers:
    value(y, x, c) = (x*(3 + c) + y*(5 - c) + ((x div 16 xor y div 16) and 1)*90 + ((x*y) mod 29)) mod 256
"""
import hashlib
import os
import sys

import numpy as np
from PIL import Image
from transformers.image_utils import SizeDict
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

HERE = os.path.dirname(os.path.abspath(__file__))

NEXT = [(300, 300), (375, 500), (480, 640), (100, 1000), (640, 480), (1000, 100), (336, 336), (1, 1), (32, 32),
        (337, 331), (503, 316), (899, 1024), (1080, 1920), (2, 3000), (3000, 2), (672, 672)]
HUB, FEW = (3136, 12845056), (200704, 1003520)
QWEN = [(*HUB, 57, 333), (*HUB, 375, 500), (*HUB, 333, 57), (*HUB, 480, 640), (*HUB, 42, 70), (*HUB, 28, 28),
        (*HUB, 1, 1), (*HUB, 98, 98), (*HUB, 13, 2600), (*HUB, 336, 336), (*FEW, 1080, 1920), (*FEW, 100, 100),
        (*FEW, 375, 500), (3136, 1003520, 1365, 2048)]


def drawn(h, w):
    y, x, c = np.mgrid[0:h, 0:w, 0:3]
    v = x * (3 + c) + y * (5 - c) + ((x // 16 ^ y // 16) & 1) * 90 + x * y % 29
    return Image.fromarray((v & 255).astype("u1"))


def sha(values):
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def next_line(side, h, w):
    edge = {"height": side, "width": side}
    processor = LlavaNextImageProcessorPil(size={"shortest_edge": side}, crop_size=edge)
    plain = processor(drawn(h, w), do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    floats = processor(drawn(h, w), return_tensors="np")["pixel_values"][0]
    assert plain.dtype == np.uint8 and floats.dtype == np.float32 and plain.shape == floats.shape
    return "next", side, h, w, len(floats), sha(plain), sha(floats)


def qwen_line(least, most, h, w):
    processor = Qwen2VLImageProcessorPil(min_pixels=least, max_pixels=most)
    picture = np.array(drawn(h, w)).transpose(2, 0, 1)
    plain = processor.resize(picture, SizeDict(shortest_edge=least, longest_edge=most), 3, 28)
    out = processor(drawn(h, w), return_tensors="np")
    floats, (_, gh, gw) = out["pixel_values"], out["image_grid_thw"][0]
    assert plain.dtype == np.uint8 and floats.dtype == np.float32 and floats.shape == (gh * gw, 1176)
    assert plain.shape == (3, gh * 14, gw * 14)
    return "qwen", least, most, h, w, *plain.shape[1:], sha(plain), sha(floats)


def main():
    assert sys.byteorder == "little"
    lines = [next_line(336, h, w) for h, w in NEXT] + [qwen_line(*one) for one in QWEN]
    with open(os.path.join(HERE, "pixels.txt"), "w") as f:
        f.writelines(" ".join(map(str, line)) + "\n" for line in lines)


if __name__ == "__main__":
    main()
