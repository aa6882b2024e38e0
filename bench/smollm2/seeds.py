#!/usr/bin/env python3
"""What models of several seeds lose against the original, and against each other, in nats a token.

    python3 seeds.py ORIGINAL NAME=ANSWERS[,ANSWERS...] ...

ORIGINAL and ANSWERS are answers.jsonl of evaluate.score "tokens", NAME's one of each seed. A mean of the
seeds comes with its standard error over them (the seeds' standard deviation over the root of their number),
and that over pieces of the seeds' mean, as in nats.py. Each NAME is then compared with the one before it
on the same pieces. Needs nothing but Python.
"""
import math
import statistics
import sys

from nats import error_of, load


def compare(first, second, name):
    """The mean difference of two lists of models on the set `name`; its errors over seeds and pieces."""
    keys = [k for k in first[0] if k[0] == name]
    n = sum(first[0][k][0] for k in keys)
    seeds = [[sum(m[k][1] for k in keys) / n for m in models] for models in (first, second)]
    mean = statistics.mean(seeds[0]) - statistics.mean(seeds[1])
    apart = math.sqrt(sum(statistics.variance(s) / len(s) for s in seeds if len(s) > 1))
    rest = [statistics.mean(m[k][1] for m in first) - statistics.mean(m[k][1] for m in second) -
            mean * first[0][k][0] for k in keys]
    return mean, apart, error_of(rest, n), math.exp(statistics.mean(seeds[0]))


def main(original, *named):
    original, before = [load(original)], None
    for name, paths in (text.split("=", 1) for text in named):
        models = [load(path) for path in paths.split(",")]
        for against, what in ((original, "less the original"), (before, "less the one before")):
            if not against:
                continue
            for text in dict.fromkeys(key[0] for key in original[0]):
                mean, apart, pieces, perplexity = compare(models, against, text)
                print(f"{name} {what}, {text}: {mean:+.4f} ± {apart:.4f} (seeds, {len(models)}) "
                      f"± {pieces:.4f} (pieces), perplexity {perplexity:.2f}")
        before = models


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: seeds.py ORIGINAL NAME=ANSWERS[,ANSWERS...] ...")
    main(*sys.argv[1:])
