"""Files of torch.save for tests/test_torchfile.c.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 numpy
    venv/bin/python make_golden.py

u8, i8, i16, i32, i64.pth hold [2, 3, 4] integers: 0..23, in the signed ones the first is the smallest of
its type. The others are not read: f32, a view with other strides (view), two dimensions (flat), a
dictionary (dict), the format before torch 1.6 (legacy). ours.pth was written by this program (the test
compares its bytes); here torch reads it.
"""
import os

import torch

os.chdir(os.path.dirname(os.path.abspath(__file__)))
count = torch.arange(24).view(2, 3, 4)
for name, dtype in (("u8", torch.uint8), ("i8", torch.int8), ("i16", torch.int16), ("i32", torch.int32),
                    ("i64", torch.int64)):
    t = count.to(dtype, copy=True)
    if dtype != torch.uint8:
        t[0, 0, 0] = torch.iinfo(dtype).min
    torch.save(t, name + ".pth")
torch.save(count.float(), "f32.pth")
torch.save(count.to(torch.uint8).transpose(0, 1), "view.pth")
torch.save(count.to(torch.uint8).view(6, 4), "flat.pth")
torch.save({"rank": count.to(torch.uint8)}, "dict.pth")
torch.save(count.to(torch.uint8), "legacy.pth", _use_new_zipfile_serialization=False)
if os.path.exists("ours.pth"):
    ours = torch.load("ours.pth", weights_only=True)
    assert ours.dtype == torch.int16 and torch.equal(ours.long(), count), ours
