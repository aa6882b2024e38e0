#!/usr/bin/env python3
"""corpus.py's texts cut into pieces of 508 tokens, in sets that share no page (pieces.json uses them).

    pip install tokenizers==0.23.3
    python3 pieces.py MODEL ENGLISH OUT

A piece is what 508 tokens of a page's whole text decode to (its end: at least 64), so that most begin
inside a sentence and none with a token of its own. Of the books, calib.jsonl is to calibrate and train
on, choice.jsonl the pages of eval.jsonl, report.jsonl a fifth of the pages, by the SHA-256 of their
names; of the fortunes, fchoice.jsonl is a quarter of the pieces, freport.jsonl the others. All but
calib.jsonl are in the order of their SHA-256: the first ones are from everywhere.
"""
import hashlib
import json
import re
import sys

from tokenizers import Tokenizer

TOKENS, LEAST = 508, 64


def pages(path):
    texts = {}
    with open(path, encoding="utf-8") as f:
        for sample in map(json.loads, f):
            texts.setdefault(re.sub(r"-\d+$", "", sample["id"]), []).append(sample["text"])
    return {name: "\n\n".join(text) for name, text in texts.items()}


def cut(tokenizer, name, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    for begin in range(0, len(ids), TOKENS):
        part = ids[begin:begin + TOKENS]
        if len(part) >= LEAST:
            yield {"id": f"{name}-{begin // TOKENS}",
                   "text": tokenizer.decode(part, skip_special_tokens=False)}


def digest(name):
    return hashlib.sha256(name.encode()).digest()


def is_reported(name):
    return 26 <= digest(name)[0] < 88


def main(model, english, out):
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    sets = {name: [] for name in ("calib", "choice", "report", "fchoice", "freport")}
    for name, text in pages(f"{english}/train.jsonl").items():
        sets["report" if is_reported(name) else "calib"] += cut(tokenizer, name, text)
    for name, text in pages(f"{english}/eval.jsonl").items():
        sets["choice"] += cut(tokenizer, name, text)
    for name, text in pages(f"{english}/other.jsonl").items():
        for piece in cut(tokenizer, name, text):
            sets["fchoice" if digest(piece["id"])[0] < 64 else "freport"].append(piece)
    for name, pieces in sets.items():
        if name != "calib":
            pieces.sort(key=lambda piece: digest(piece["id"]))
        with open(f"{out}/{name}.jsonl", "w", encoding="utf-8") as f:
            for piece in pieces:
                f.write(json.dumps(piece, ensure_ascii=False) + "\n")
        print(f"{name}: {len(pieces)} pieces")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: pieces.py MODEL ENGLISH OUT")
    main(*sys.argv[1:])
