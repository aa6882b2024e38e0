"""Writes reference.safetensors with the reference implementation of the format.

python3 -m venv venv && venv/bin/pip install numpy==2.4.6 safetensors==0.8.0
venv/bin/python tests/data/safetensors/make_golden.py

Value i of every float tensor is i / 4 - 1, which all of its dtypes hold exactly.
"""

import pathlib

import numpy as np
from safetensors import TensorSpec, serialize_file

here = pathlib.Path(__file__).parent


def values(n):
    return (np.arange(n, dtype=np.float32) / 4 - 1).astype(np.float32)


def bf16(x):  # exact for these values: the lower half of the bits is zero
    return (x.view(np.uint32) >> 16).astype(np.uint16)


tensors = {
    "w.f32": ("float32", [2, 3], values(6)),
    "w.f16": ("float16", [3], values(3).astype(np.float16)),
    "w.bf16": ("bfloat16", [5], bf16(values(5))),
    "w.f64": ("float64", [], values(1).astype(np.float64)),
    "n.i64": ("int64", [2], np.array([1, -2], dtype=np.int64)),
    "empty": ("float32", [0, 4], np.zeros(0, dtype=np.float32)),
    "name with \u00e9 and \"quotes\"": ("uint8", [1], np.array([7], dtype=np.uint8)),
}
serialize_file(
    {
        k: TensorSpec(dtype=d, shape=s, data_ptr=v.ctypes.data, data_len=v.nbytes)
        for k, (d, s, v) in tensors.items()
    },
    str(here / "reference.safetensors"),
    metadata={"format": "pt", "made": "by the reference implementation"},
)
