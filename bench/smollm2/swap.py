#!/usr/bin/env python3
"""A set to train on with other texts in place of some: of each half of TEXTS.jsonl N lines are
left out, by a draw with a fixed seed, and those of OTHERS.jsonl come at the end.

    python3 swap.py TEXTS.jsonl N OTHERS.jsonl OUT.jsonl
"""
import random
import sys


def main(texts, n, others, out):
    with open(texts, encoding="utf-8") as f:
        lines = f.readlines()
    rng, half = random.Random(3), len(lines) // 2
    gone = set(rng.sample(range(half), int(n)) + rng.sample(range(half, len(lines)), int(n)))
    with open(others, encoding="utf-8") as f:
        more = f.readlines()
    with open(out, "w", encoding="utf-8") as f:
        f.writelines([line for i, line in enumerate(lines) if i not in gone] + more)
    print(f"{out}: {len(lines) - len(gone)} of {len(lines)} lines, and {len(more)} others")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: swap.py TEXTS.jsonl N OTHERS.jsonl OUT.jsonl")
    main(*sys.argv[1:])
