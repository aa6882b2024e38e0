#!/usr/bin/env python3
"""English text from Debian packages, as plain-text samples ({"id", "text"}, one a line).

    apt-get download debian-handbook python3.11-doc fortunes
    for f in *.deb; do dpkg -x $f ROOT; done
    python3 corpus.py ROOT OUT

Writes train.jsonl, eval.jsonl (pages that are not trained on: a tenth, by the SHA-256 of their
names) from the Debian handbook (GPL-2+ or CC BY-SA 3.0) and Python's tutorial, HOWTOs and FAQs
(PSF licence), and other.jsonl from fortunes (art, law, science, wisdom and the like), of which
nothing is trained. Headings, paragraphs and list items are kept, code is not. A sample is some whole
paragraphs of one page, at most CHARS characters.
"""
import glob
import hashlib
import html.parser
import json
import os
import re
import sys

CHARS = 1800
KEPT = {"p", "li", "dd", "dt", "h1", "h2", "h3", "h4"}
SKIPPED = {"pre", "script", "style", "nav", "table", "head"}
FORTUNES = ["art", "education", "food", "goedel", "law", "magic", "medicine", "people", "pets", "science",
            "songs-poems", "sports", "tao", "wisdom", "work"]


class Paragraphs(html.parser.HTMLParser):
    """What a page's paragraphs say, in order."""

    def __init__(self):
        super().__init__()
        self.out, self.text, self.skip = [], [], []

    def flush(self):
        text = re.sub(r"\s+", " ", "".join(self.text)).replace("¶", "").strip()
        if text:
            self.out.append(text)
        self.text = []

    def handle_starttag(self, tag, attrs):
        classes = (dict(attrs).get("class") or "").split()
        if tag in SKIPPED or "sphinxsidebar" in classes or "related" in classes or \
                "docnav" in classes:
            self.skip.append([tag, 0])
        elif self.skip and tag == self.skip[-1][0]:
            self.skip[-1][1] += 1
        if tag in KEPT:
            self.flush()

    def handle_endtag(self, tag):
        if self.skip and tag == self.skip[-1][0]:
            if self.skip[-1][1] == 0:
                self.skip.pop()
            else:
                self.skip[-1][1] -= 1
        if tag in KEPT:
            self.flush()

    def handle_data(self, data):
        if not self.skip:
            self.text.append(data)


def pages(root, pattern):
    for path in sorted(glob.glob(os.path.join(root, pattern))):
        parser = Paragraphs()
        with open(path, encoding="utf-8") as f:
            parser.feed(f.read())
        parser.flush()
        yield os.path.basename(path), [p for p in parser.out if len(p.split()) >= 6 and p[0] != "©"]


def fortunes(root):
    for name in FORTUNES:
        with open(os.path.join(root, "usr/share/games/fortunes", name), encoding="utf-8") as f:
            yield name, [q.strip() for q in f.read().split("\n%\n") if q.strip()]


def samples(name, paragraphs, between):
    piece, n = [], 0
    for p in paragraphs + [None]:
        if piece and (p is None or sum(map(len, piece)) + len(p) > CHARS):
            n += 1
            yield {"id": f"{name}-{n}", "text": between.join(piece)}
            piece = []
        if p is not None and len(p) <= CHARS:
            piece.append(p)


def held_out(name):
    return hashlib.sha256(name.encode()).digest()[0] < 26


def main(root, out):
    os.makedirs(out, exist_ok=True)
    docs = [("handbook", "usr/share/doc/debian-handbook/html/en-US/*.html")]
    docs += [("python", f"usr/share/doc/python3.11/html/{d}/*.html")
             for d in ("tutorial", "howto", "faq")]
    sets = {"train": [], "eval": [], "other": []}
    for what, pattern in docs:
        for page, paragraphs in pages(root, pattern):
            name = f"{what}-{page.removesuffix('.html')}"
            sets["eval" if held_out(name) else "train"] += samples(name, paragraphs, "\n\n")
    for name, quotes in fortunes(root):
        sets["other"] += samples(f"fortunes-{name}", quotes, "\n\n")
    for name, lines in sets.items():
        with open(f"{out}/{name}.jsonl", "w", encoding="utf-8") as f:
            for line in lines:
                f.write(json.dumps(line, ensure_ascii=False) + "\n")
        print(f"{name}: {len(lines)} samples, {sum(len(s['text']) for s in lines)} characters")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: corpus.py ROOT OUT")
    main(*sys.argv[1:])
