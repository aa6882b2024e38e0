#!/usr/bin/env python3
"""Makes paired.jsonl: statistics of paired scores, for tests/test_paired.c.

Written anew from the formulas, with the standard library alone: binomial tails as exact fractions,
the rest in 50 decimal digits. Ran with Python 3.11.7:  python3 make_paired.py > paired.jsonl"""
import json
import math
from decimal import Decimal, getcontext
from fractions import Fraction

getcontext().prec = 50
Z = Decimal("1.959963984540054")


def mcnemar(b, c):
    n, m = b + c, min(b, c)
    term = lambda k: Fraction(math.comb(n, k), 2**n)
    below = sum((term(k) for k in range(m)), Fraction(0))
    return float(Fraction(1) if b == c else 2 * below + term(m))


def wilson(right, n):
    p, z2, n = Decimal(right) / n, Z * Z, Decimal(n)
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * (p * (1 - p) / n + z2 / (4 * n * n)).sqrt()
    return float(middle - half), float(middle + half)


def error(d, cluster):
    n = len(d)
    mean = sum(d, Decimal(0)) / n
    d = [v - mean for v in d]
    total = sum(v * v for v in d) / (n - 1) / n
    for c in sorted(set(cluster)):
        own = [v for v, k in zip(d, cluster) if k == c]
        total += (sum(own) ** 2 - sum(v * v for v in own)) / n / n
    return total.sqrt()


def compare(x, y, cluster):
    n = len(x)
    x, y = [Decimal(v) for v in x], [Decimal(v) for v in y]
    d = [b - a for a, b in zip(x, y)]
    base, converted = sum(x) / n, sum(y) / n
    recovered = converted / base
    rest = [b - recovered * a for a, b in zip(x, y)]
    return [float(v) for v in (base, converted, converted - base, error(d, cluster), recovered,
                               error(rest, cluster) / base)]


def counts(n, both, lost, won):
    x = [1] * both + [1] * lost + [0] * won + [0] * (n - both - lost - won)
    y = [1] * both + [0] * lost + [1] * won + [0] * (n - both - lost - won)
    return x, y


def main():
    for b, c in ((0, 0), (5, 5), (6, 1), (10, 20), (40, 60), (0, 12), (300, 420), (3000, 3100)):
        print(json.dumps({"mcnemar": [b, c], "want": [mcnemar(b, c)]}))
    for right, n in ((421, 512), (0, 10), (10, 10), (1, 3), (17999, 18000)):
        print(json.dumps({"wilson": [right, n], "want": wilson(right, n)}))
    for n, both, b, c in ((512, 400, 20, 14), (512, 400, 21, 14), (3000, 2000, 90, 60)):
        x, y = counts(n, both, b, c)
        for size in (1, 4):
            cluster = [i // size for i in range(n)]
            print(json.dumps({"counts": [n, both, b, c, size], "want": compare(x, y, cluster)}))


main()
