"""Random texts and token ids that tests/test_tokenizer_equal.c makes alike: fuzz.json's pieces, put
together by a generator of random numbers that both sides have.

    python3 tests/data/tokenizer/fuzz.py COUNT FILE.bin

writes COUNT texts as records for compare.py."""

import json
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


class Random:
    def __init__(self, seed):
        self.state = seed
        self.below(1)

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n


def load():
    with open(os.path.join(HERE, "fuzz.json"), encoding="utf-8") as f:
        return json.load(f)


def text(i, pool):
    r, out = Random(i), []
    for _ in range(1 + r.below(12)):
        kind = r.below(8)
        if kind == 0:  # any character; surrogates move down
            c = r.below((0x80, 0x3000, 0x10000, 0x110000)[r.below(4)])
            out.append(chr(c - 0x800 if 0xd800 <= c < 0xe000 else c))
        else:
            out.append(pool[r.below(len(pool))] * (2 + r.below(6) if kind == 1 else 1))
    return "".join(out)


def ids(i, size):
    """Some are bytes in real vocabularies, some added tokens, some no token at all."""
    r = Random(i)
    return [(r.below(300), max(size - r.below(300), 0), r.below(size), r.below(size))[r.below(4)]
            for _ in range(r.below(24))]


def char_texts(ranges):
    """64 characters each."""
    return ["".join(map(chr, range(c, c + 64))) for a, b in ranges for c in range(a, b, 64)]


def records(data, size=1):
    """The parts of a .bin: a count each (32 bits) and that many times `size` bytes."""
    at = 0
    while at < len(data):
        end = at + 4 + size * struct.unpack_from("<I", data, at)[0]
        yield data[at + 4:end]
        at = end


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    pool = load()["pieces"]
    with open(sys.argv[2], "wb") as f:
        for i in range(int(sys.argv[1])):
            data = text(i, pool).encode()
            f.write(struct.pack("<I", len(data)) + data)


if __name__ == "__main__":
    main()
