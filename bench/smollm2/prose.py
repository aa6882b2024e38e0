#!/usr/bin/env python3
"""Pieces of prose of another kind than the books and the fortunes, to calibrate and train on beside them.

    pip install tokenizers==0.23.3
    apt-get download anarchism && dpkg -x anarchism_*.deb ROOT
    python3 prose.py MODEL ROOT N OUT.jsonl TAKEN.jsonl ...

N pieces (pieces.py) drawn from all pages of the Anarchist FAQ (GPL-2+). None has eight words in a
row of any TAKEN file, the texts to be scored; says how many were left out for that.
"""
import json
import random
import re
import sys

from corpus import pages
from pieces import cut
from tokenizers import Tokenizer

WORDS = 8


def grams(text):
    words = re.findall(r"[a-z0-9']+", text.lower())
    return {tuple(words[i:i + WORDS]) for i in range(len(words) - WORDS + 1)}


def main(model, root, n, out, *taken):
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    seen = set()
    for path in taken:
        with open(path, encoding="utf-8") as f:
            seen.update(*(grams(json.loads(line)["text"]) for line in f))
    kept = shared = 0
    found = [piece for name, text in pages(root, "usr/share/doc/anarchism/html/*.html")
             for piece in cut(tokenizer, f"prose-{name.removesuffix('.html')}", "\n\n".join(text))]
    random.Random(3).shuffle(found)
    with open(out, "w", encoding="utf-8") as f:
        for piece in found:
            if kept == int(n):
                break
            if grams(piece["text"]) & seen:
                shared += 1
                continue
            f.write(json.dumps(piece, ensure_ascii=False) + "\n")
            kept += 1
    print(f"{out}: {kept} of {len(found)} pieces; {shared} left out")


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit("usage: prose.py MODEL ROOT N OUT.jsonl TAKEN.jsonl ...")
    main(*sys.argv[1:])
