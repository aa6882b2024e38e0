"""How fast our tokenizer is beside the `tokenizers` library, one thread each.

    pip install tokenizers==0.23.3
    make bench-tokenize MHA2MLA_REAL_DATA=REAL PYTHON=python

or, after make build/bench/tokenize, for some tokenizers or fewer passes than 7,

    python bench/tokenize_speed.py REAL [NAME ...] [PASSES]

REAL holds tokenizers/NAME/tokenizer.json (data/fetch-real-data.sh) and corpus/SET.bin
(tests/data/tokenizer/make_corpus.py). Both sides keep the lines in memory and take turns, pass by
pass; the library's best way of three (one call a line, encode_batch, encode_batch_fast without
offsets) counts. The first pass of each is not counted: it fills the caches. Printed are medians of
the passes with the lowest and highest in brackets: MB/s by user CPU time, and our speed divided by
the library's by user CPU time and by the clock."""

import os
import resource
import statistics
import struct
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from tokenizers import Tokenizer, __version__  # noqa: E402 (it reads the environment)

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = os.path.join(HERE, "..", os.environ.get("BUILD", "build"), "bench/tokenize")


def read_lines(path):
    with open(path, "rb") as f:
        data = f.read()
    at, lines = 0, []
    while at < len(data):
        end = at + 4 + struct.unpack_from("<I", data, at)[0]
        lines.append(data[at + 4:end].decode())
        at = end
    return lines


def timed(encode):
    """(clock, user CPU) seconds and tokens of a pass."""
    user, wall = resource.getrusage(resource.RUSAGE_SELF).ru_utime, time.perf_counter()
    out = encode()
    wall, user = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF).ru_utime - user
    return wall, user, sum(len(e.ids) for e in out)


def our_pass(tool):
    tool.stdin.write(b"\n")
    tool.stdin.flush()
    wall, user, tokens = tool.stdout.readline().split()
    return float(wall), float(user), int(tokens)


def spread(values, digits):
    return "%.*f [%.*f-%.*f]" % (digits, statistics.median(values), digits, min(values), digits, max(values))


def measure(path, lines_path, repeats):
    lines, tk = read_lines(lines_path), Tokenizer.from_file(path)
    megabytes = sum(len(line.encode()) for line in lines) / 1e6
    ways = {"encode": lambda: [tk.encode(line) for line in lines], "encode_batch": lambda: tk.encode_batch(lines),
            "encode_batch_fast": lambda: tk.encode_batch_fast(lines)}
    passes = {way: [] for way in ["ours", *ways]}
    with subprocess.Popen([TOOL, "time", path, lines_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tool:
        for _ in range(repeats + 1):
            passes["ours"].append(our_pass(tool))
            for way, encode in ways.items():
                passes[way].append(timed(encode))
        tool.stdin.close()
    if len({p[2] for way in passes.values() for p in way}) != 1:
        sys.exit("%s, %s: the two sides give different numbers of tokens" % (path, lines_path))
    user = {way: [p[1] for p in passes[way][1:]] for way in passes}
    best = min(ways, key=lambda way: statistics.median(user[way]))
    ratio = [[p[i] / o[i] for p, o in zip(passes[best][1:], passes["ours"][1:])] for i in (1, 0)]
    print("| %s | %s, %.1f MB | %s | %s (%s) | %s | %s |" % (
        os.path.basename(os.path.dirname(path)), os.path.basename(lines_path)[:-4], megabytes,
        spread([megabytes / t for t in user["ours"]], 1), spread([megabytes / t for t in user[best]], 1), best,
        spread(ratio[0], 2), spread(ratio[1], 2)), flush=True)


def main():
    args = sys.argv[1:]
    repeats = int(args.pop()) if len(args) > 1 and args[-1].isdigit() else 7
    if not args or not os.path.isdir(args[0]):
        sys.exit(__doc__)
    root, names = args[0], args[1:] or ["llama2", "llama3", "qwen2_5"]
    print("tokenizers %s, %d passes\n\n| tokenizer | lines | ours, MB/s | library, MB/s (its best way) | ratio, user CPU | "
          "ratio, clock |\n|---|---|---|---|---|---|" % (__version__, repeats))
    for name in names:
        for lines in ("captions", "prose", "source"):
            measure(os.path.join(root, "tokenizers", name, "tokenizer.json"),
                    os.path.join(root, "corpus", lines + ".bin"), repeats)


main()
