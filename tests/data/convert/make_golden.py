#!/usr/bin/env python3
"""Golden values for tests/test_rank.c and tests/test_mdsvd.c.

Run from the project root:  python3 tests/data/convert/make_golden.py
Made with Python 3.11 and numpy 2.4.6.

orders.txt: row orders of q_proj and k_proj by boolean masks over all rows, as MHA2MLA-VLM's public
code has them: ones in the order in which they lie in the mask, then zeros.
mdsvd.txt: the reference recipe for MD-SVD, two SVDs and two inverses, in double; component signs set
so that the largest element of each column of W_up is positive.
"""
import os
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(20260101)


def head_mask(name, dh, dr, start):
    mask = np.zeros(dh, bool)
    half, keep = dh // 2, dr // 2
    if name == "high":
        mask[:keep] = mask[half : half + keep] = True
    elif name == "low":
        mask[half - keep : half] = mask[dh - keep :] = True
    else:
        mask[range(start, dh, dh // dr)] = True
    return mask


def order(mask):
    return np.concatenate([np.where(mask)[0], np.where(~mask)[0]])


def orders(out):
    cases = [
        ("high", 4, 2, 8, 4, 0),
        ("low", 4, 2, 8, 4, 0),
        ("low", 3, 3, 12, 10, 0),
        ("uniform", 4, 1, 16, 4, 0),
        ("uniform", 4, 2, 16, 4, 3),
        ("uniform", 2, 2, 8, 8, 0),
        ("file", 4, 2, 8, 4, 0),
        ("file", 6, 3, 16, 6, 0),
        ("file", 4, 4, 8, 2, 0),
        ("file", 8, 1, 32, 32, 0),
    ]
    print(len(cases), file=out)
    for name, H, G, dh, dr, start in cases:
        print(name, H, G, dh, dr, start, file=out)
        if name == "file":
            half = np.stack([rng.permutation(dh // 2) for _ in range(G)])
            ranks = np.concatenate([half, half], axis=-1)  # [G, dh]
            print(*half.reshape(-1), file=out)
            k_mask = ranks < dr // 2
            q_mask = np.repeat(k_mask, H // G, axis=0).reshape(-1)
            k_mask = k_mask.reshape(-1)
        else:
            q_mask = np.tile(head_mask(name, dh, dr, start), H)
            k_mask = np.tile(head_mask(name, dh, dr, start), G)
        print(*order(q_mask), file=out)
        print(*order(k_mask), file=out)


def mdsvd(out):
    cases = [(5, 8, 3), (9, 6, 4)]  # n, d, r
    print(len(cases), file=out)
    for n, d, r in cases:
        x = rng.normal(size=(40, d)) * np.linspace(0.5, 2, d)
        w = rng.normal(size=(n, d)).astype(np.float32).astype(np.float64)
        tokens, samples = 40, 4
        s = x.T @ x
        us, ss, _ = np.linalg.svd(s / tokens / samples)
        root = np.diag(np.sqrt(ss))
        uw, sw, vw = np.linalg.svd(w @ us @ root, full_matrices=False)
        uw, sw, vw = uw[:, :r], np.diag(np.sqrt(sw[:r])), vw[:r]
        up = uw @ sw
        down = sw @ vw @ np.linalg.inv(root) @ np.linalg.inv(us)
        sign = np.sign(up[np.argmax(np.abs(up), axis=0), np.arange(r)])
        up, down = up * sign, down * sign[:, None]
        print(n, d, r, tokens, samples, file=out)
        for a in (w, s, up, down):
            print(*("%.17g" % v for v in a.reshape(-1)), file=out)


with open(os.path.join(HERE, "orders.txt"), "w") as f:
    orders(f)
with open(os.path.join(HERE, "mdsvd.txt"), "w") as f:
    mdsvd(f)
