"""Compares our tokenizer with the `tokenizers` library, line by line: ids, and the text that the
library's ids decode to, with special tokens and without. Prints a table and the first differences.

    pip install tokenizers==0.23.3
    make build/bench/tokenize
    python tests/data/tokenizer/compare.py TOKENIZER.json LINES.bin ...

make_corpus.py makes such lines, fuzz.py others."""

import os
import struct
import subprocess
import sys
import tempfile

from fuzz import records
from tokenizers import Tokenizer

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../build/bench/tokenize")
SHOWN = 5


def ours(*command):
    return subprocess.run([TOOL, *command], check=True, stdout=subprocess.PIPE).stdout


def differences(what, texts, want, got):
    """Of two lists; shows the first ones."""
    n = 0
    for text, a, b in zip(texts, want, got):
        n += a != b
        if a != b and n <= SHOWN:
            print("  %s of %r:\n    library %r\n    ours    %r" % (what, text[:200], a, b))
    return n + abs(len(want) - len(got))


def compare(path, lines_path):
    tk = Tokenizer.from_file(path)
    with open(lines_path, "rb") as f:
        lines = [r.decode() for r in records(f.read())]
    ids = [e.ids for e in tk.encode_batch_fast(lines)]
    mine = [list(struct.unpack("<%di" % (len(r) // 4), r)) for r in records(ours("ids", path, lines_path), 4)]
    found = [differences("ids", lines, ids, mine)]
    with tempfile.NamedTemporaryFile() as f:
        for i in ids:
            f.write(struct.pack("<I%di" % len(i), len(i), *i))
        f.flush()
        for skip in (False, True):
            got = [r.decode() for r in records(ours("text", path, f.name, *["skip"] * skip))]
            found.append(differences("text (skip %s)" % skip, ids, tk.decode_batch(ids, skip_special_tokens=skip), got))
    print("%-40s %-14s %7d lines %9d ids; differences: %d ids, %d texts, %d without special tokens" % (
        path[-40:], os.path.basename(lines_path), len(lines), sum(map(len, ids)), *found), flush=True)
    return sum(found)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(1 if sum([compare(sys.argv[1], p) for p in sys.argv[2:]]) else 0)


main()
