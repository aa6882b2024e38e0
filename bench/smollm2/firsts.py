#!/usr/bin/env python3
"""Texts to train on, every second of which begins with a token drawn from the whole vocabulary.

    pip install tokenizers==0.23.3
    python3 firsts.py MODEL IN.jsonl OUT.jsonl

The draw has a fixed seed. Special tokens are not drawn, nor those that would come back as others.
"""
import json
import random
import sys

from openings import plain_tokens
from tokenizers import Tokenizer


def main(model, path, out):
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    plain = plain_tokens(tokenizer)
    rng, n = random.Random(4), 0
    with open(path, encoding="utf-8") as f, open(out, "w", encoding="utf-8") as to:
        for i, sample in enumerate(map(json.loads, f)):
            while i % 2:
                first = rng.choice(plain)
                text = tokenizer.decode([first], skip_special_tokens=False) + sample["text"]
                if tokenizer.encode(text, add_special_tokens=False).ids[0] == first:
                    sample["text"], n = text, n + 1
                    break
            to.write(json.dumps(sample, ensure_ascii=False) + "\n")
    print(f"{out}: {n} of {i + 1} texts begin with a drawn token")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: firsts.py MODEL IN.jsonl OUT.jsonl")
    main(*sys.argv[1:])
