#!/usr/bin/env python3
"""A set to calibrate on that holds many first tokens: N pieces of calib.jsonl, and M openings,
texts of four tokens, the first drawn from the whole vocabulary, the others from the pieces.

    pip install tokenizers==0.23.3
    python3 openings.py MODEL CALIB.jsonl N M OUT.jsonl

Both draws have a fixed seed. Special tokens are not drawn, nor four that
would come back as others.
"""
import json
import random
import sys

from tokenizers import Tokenizer

TOKENS = 4


def plain_tokens(tokenizer):
    special = {i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special}
    return [i for i in range(tokenizer.get_vocab_size()) if i not in special]


def openings(tokenizer, pieces, n, rng):
    plain = plain_tokens(tokenizer)
    ids = [tokenizer.encode(p["text"], add_special_tokens=False).ids for p in pieces]
    while n > 0:
        where, piece = rng.random(), rng.choice(ids)
        begin = int(where * (len(piece) - TOKENS + 1))
        want = [rng.choice(plain)] + piece[begin:begin + TOKENS - 1]
        text = tokenizer.decode(want, skip_special_tokens=False)
        if tokenizer.encode(text, add_special_tokens=False).ids == want:
            yield {"id": f"opening-{n}", "text": text}
            n -= 1


def main(model, calib, n, m, out):
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    with open(calib, encoding="utf-8") as f:
        pieces = [json.loads(line) for line in f]
    chosen = random.Random(1).sample(pieces, int(n))
    short = list(openings(tokenizer, pieces, int(m), random.Random(2)))
    with open(out, "w", encoding="utf-8") as f:
        for piece in chosen + short:
            f.write(json.dumps(piece, ensure_ascii=False) + "\n")
    print(f"{out}: {len(chosen)} pieces and {len(short)} openings")


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit("usage: openings.py MODEL CALIB.jsonl N M OUT.jsonl")
    main(*sys.argv[1:])
