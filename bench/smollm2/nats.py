#!/usr/bin/env python3
"""What one model loses against another on the same pieces, in nats a token, with the standard error of a
sum over pieces by their tokens; and the pieces that lose most.

    python3 nats.py ANSWERS.jsonl OTHER.jsonl

The files are those that evaluate.score "tokens" leaves (RUN/.../answers.jsonl). Needs nothing but Python.
"""
import json
import math
import sys

SHOWN = 3


def load(path):
    with open(path, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    return {(r["set"], r["id"]): (r["n"], r["loss"]) for r in rows}


def error_of(rest, n):
    """Of a mean over n tokens, from what each piece's sum is away from it."""
    return math.sqrt(sum(x * x for x in rest) * len(rest) / max(len(rest) - 1, 1)) / n


def main(a, b):
    a, b = load(a), load(b)
    for name in dict.fromkeys(key[0] for key in a):
        keys = [key for key in a if key[0] == name and key in b]
        n = sum(a[key][0] for key in keys)
        losses = [sum(x[key][1] for key in keys) / n for x in (a, b)]
        mean = losses[0] - losses[1]
        error = error_of([a[k][1] - b[k][1] - mean * a[k][0] for k in keys], n)
        print(f"{name}: {len(keys)} pieces, {n} tokens, perplexity {math.exp(losses[0]):.2f} and "
              f"{math.exp(losses[1]):.2f}, {mean:+.4f} ± {error:.4f} nats")
        most = sorted(((a[k][1] - b[k][1]) / a[k][0], k[1]) for k in keys)[-SHOWN:]
        print("  " + ", ".join(f"{piece} {loss:+.2f}" for loss, piece in reversed(most)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: nats.py ANSWERS.jsonl OTHER.jsonl")
    main(*sys.argv[1:])
