"""Writes data/tokenizer/tables.c: where the `tokenizers` library's idea of Unicode is another one
than that of our libraries. It asks the library about every character.

    python3.11 -m pip install tokenizers==0.23.3 unicodedata2==18.0.0
    python3.11 tests/data/tokenizer/make_unicode.py

Python 3.11's unicodedata is Unicode 14, as is PCRE2 of Debian 12: the oldest that is counted on.
unicodedata2 is Unicode 18, newer than all."""

import os
import unicodedata

import unicodedata2
from tokenizers import Regex, normalizers, pre_tokenizers

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../data/tokenizer/tables.c")
ALL = [c for c in range(0x110000) if not 0xd800 <= c < 0xe000]
SCRIPTS = "Arabic Cyrillic Devanagari Greek Han Hangul Hebrew Hiragana Katakana Latin Thai".split()

HEAD = """/* tables.c - written by tests/data/tokenizer/make_unicode.py: where the `tokenizers`
 * library %s and Unicode %s to %s differ. unicode.h says what the tables
 * mean. */
#include "data/tokenizer/unicode.h"

/* clang-format off */
"""


def vanish(step):
    """The characters that a pre-tokenizer removes."""
    out = set()
    for i in range(0, len(ALL), 4096):
        block = [chr(c) for c in ALL[i:i + 4096]]
        left = set("".join(part for part, _ in step.pre_tokenize_str("".join(block))))
        out |= {ord(c) for c in block if c not in left}
    return out


def matched(regex):
    return vanish(pre_tokenizers.Split(Regex(regex), "removed"))


def runs(value):
    """[first, last, value] of neighbours with the same value."""
    out = []
    for c in sorted(value):
        if out and out[-1][1] == c - 1 and out[-1][2] == value[c]:
            out[-1][1] = c
        else:
            out.append([c, c, value[c]])
    return out


def newer():
    """Characters that Oniguruma has and Unicode 14 lacks: their categories and scripts."""
    added = [c for c in ALL if unicodedata.category(chr(c)) == "Cn"]
    names = sorted({unicodedata2.category(chr(c)) for c in added} - {"Cn"})
    category = {n: matched(r"\p{%s}" % n) for n in names}
    script = {n: matched(r"\p{%s}" % n) for n in SCRIPTS}
    first = lambda sets, c: next((n for n in sets if c in sets[n]), None)
    return {c: (first(category, c), first(script, c)) for c in added if first(category, c)}


def lower():
    """Characters whose lower case Unicode 14 does not know, with the way to it."""
    low = {c: normalizers.Lowercase().normalize_str(chr(c)) for c in ALL}
    return {c: ord(low[c]) - c for c in ALL if len(low[c]) == 1 and low[c] != chr(c).lower()}


def numbers():
    step = pre_tokenizers.Digits(individual_digits=True)
    return {c: None for c in ALL if not unicodedata.category(chr(c)).startswith("N")
            and len(step.pre_tokenize_str("x%sy" % chr(c))) > 1}


def no_punctuation():
    step = vanish(pre_tokenizers.Punctuation("removed"))
    return {c: None for c in ALL if unicodedata2.category(chr(c)).startswith("P") and c not in step}


def not_normalized():
    """Characters that have a combining class or are decomposed in Unicode 18, and not in the library,
    and those that such decompositions begin with: only so they are never composed."""
    forms = {"NFD": normalizers.NFD(), "NFKD": normalizers.NFKD()}
    out = {}
    for c in ALL:
        s = chr(c)
        for name, form in forms.items():
            new = unicodedata2.normalize(name, s)
            if form.normalize_str(s) != new:
                out[c] = None
                if name == "NFD":
                    out[ord(new[0])] = None
        # U+0345 has the highest class: what has one goes before it
        if c != 0x345 and unicodedata2.combining(s) and forms["NFD"].normalize_str("\u0345" + s)[0] == "\u0345":
            out[c] = None
    return out


def main():
    import tokenizers
    with open(OUT, "w", encoding="utf-8") as f:
        f.write(HEAD % (tokenizers.__version__, unicodedata.unidata_version, unicodedata2.unidata_version))
        rows = runs(newer())
        f.write("\nconst struct newer_char newer_chars[] = {\n")
        for a, b, (category, script) in rows:
            f.write('    {0x%x, 0x%x, "%s", %s},\n' % (a, b, category, '"%s"' % script if script else "NULL"))
        f.write("};\nconst size_t n_newer_chars = sizeof newer_chars / sizeof *newer_chars;\n")
        f.write("\nconst struct newer_case newer_cases[] = {\n")
        for a, b, way in runs(lower()):
            f.write("    {0x%x, 0x%x, %d},\n" % (a, b, way))
        f.write("};\nconst size_t n_newer_cases = sizeof newer_cases / sizeof *newer_cases;\n")
        for name, chars in (("newer_numbers", numbers()), ("no_punctuation", no_punctuation()),
                            ("not_normalized", not_normalized())):
            cells = ["{0x%x, 0x%x}," % (a, b) for a, b, _ in runs(chars)]
            f.write("\nstatic const struct char_range %s_ranges[] = {\n" % name)
            for i in range(0, len(cells), 4):
                f.write("    %s\n" % " ".join(cells[i:i + 4]))
            f.write("};\nconst struct char_set %s = {%s_ranges, %d};\n" % (name, name, len(cells)))


main()
