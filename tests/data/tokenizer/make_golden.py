"""Makes the tokenizer tests' data: two tiny tokenizers, cases.json (their ids, and those of many
variants of them) and real.json (hashes of what three published tokenizers give).

    pip install tokenizers==0.23.3
    python tests/data/tokenizer/make_golden.py [REAL]

REAL is a directory that holds tokenizers/{llama2,llama3,qwen2_5}/tokenizer.json, which are not
part of this project (data/fetch-real-data.sh fetches them); without it real.json stays as it is."""

import json
import os
import random
import struct
import sys

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
# The pattern of Llama 3; Qwen's takes digits one by one.
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")

SENTENCES = """A brown dog runs over the wet grass and barks at two birds.
The red bus stops in front of the old station; nobody gets off.
Three plates, two cups and a small spoon are on the wooden table.
What is in the picture? There is a cat that sleeps on a chair.
How many boats are there? There are 12 boats, 3 of them are blue.
She's sure they're late; we'll wait, but I'd rather not, and he can't.
def area(width, height): return width * height  # no units
for (int i = 0; i < 10; i++) { sum += values[i]; }
Der Hund läuft über die grüne Wiese. Où est la bibliothèque ? El niño está aquí.
Кошка сидит на окне. 犬が公園を走っています。 고양이가 자고 있다. 一只狗在跑。
""".split("\n")

WORDS = ["the", "dog", "Runs", "picture", "don't", "WE'LL", "they're", "x", "foo_bar", "3.14", "12345678",
         "http://a.b/c?d=e", "!!!", "...", "(", ")", "—", "“q”", "#", "USER:", "ASSISTANT:", "a" * 50,
         "ab" * 40, "läuft", "Кошка", "犬が公園", "고양이", "العربية", "हिन्दी", "ไทย"]
ODD = ["😀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "1️⃣", "é", "e\u0301", "a\u0323\u0302", "ﬁ", "①",
       "\u1112\u1161\u11ab", "ｶﾞ", "\u200b", "\u200d", "\ufeff", "\u00a0", "\u180e", "\u3000", "\u2028",
       "\x85", "\x1c", "\x7f", "ſ", "'ſ", "İ", "ß", "\u2126", "\u0344", "\u0958", "½", "Ⅷ", "٣", "\U0010ffff"]
BLANKS = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", " \t ", "\x0b", "    \n    "]
SPECIAL = ["<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|image_pad|>",
           "<0x41>", "<|im_", "▁", "▁▁", "[W]", "[L]", "[R]", "[N]"]


# What random texts rarely hit: blanks around tokens that take them in, words kept whole, repeats.
EXACT = ["x  [R]  \n y", "[R]\u3000[R] ", "x  [L]  y", "  [L]", "a[W]b [W] b[W] [W]a é[W]", "[N][N] N", "an unmergedword",
         " unmergedword unmergedwords", "aaaaa", "eeee ee eeeeeee", "nnnn" * 12, "<image><image> <image>\n", "</s></s>"]


def texts(count, seed):
    r = random.Random(seed)
    pool = WORDS * 2 + ODD + BLANKS * 3 + SPECIAL
    out = ["", " ", "\n", "a"] + EXACT + SENTENCES
    while len(out) < count:
        if len(out) % 5 == 0:  # long words of pieces that merge in many ways
            out.append("".join(r.choice(["th", "e", "e ", "r", "er", "on", "n", "o", " t", "a", "in", "s"])
                               for _ in range(r.choice([5, 12, 60, 200]))))
        elif len(out) % 3:
            out.append("".join(r.choice(pool) for _ in range(r.randint(1, 10))))
        else:
            out.append(" ".join(r.choice(WORDS + ODD) for _ in range(r.randint(2, 15))))
    return out


def added(content, start, **flags):
    return dict(id=start, content=content, single_word=False, lstrip=False, rstrip=False,
                normalized=False, special=True) | flags


def added_list(start):
    return [added("<image>", start), added("</s>", start + 1),
            added("[W]", start + 2, single_word=True, special=False),
            added("[L]", start + 3, lstrip=True), added("[R]", start + 4, rstrip=True),
            added("[N]", start + 5, normalized=True, special=False),
            added("<|im_start|>", start + 6), added("<|im_end|>", start + 7)]


def byte_level():
    """Like Llama 3 and Qwen 2.5: bytes, a pattern, NFC, words that are tokens are kept whole."""
    tk = Tokenizer(models.BPE())
    tk.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tk.decoder = decoders.ByteLevel()
    tk.train_from_iterator(SENTENCES * 2, trainers.BpeTrainer(
        vocab_size=480, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    j = json.loads(tk.to_str())
    j["normalizer"] = {"type": "NFC"}
    j["model"]["ignore_merges"] = True
    n = len(j["model"]["vocab"])
    j["model"]["vocab"]["Ġunmergedword"] = n  # only reached by ignore_merges
    j["added_tokens"] = added_list(n + 1)
    j["model"]["merges"] = [" ".join(m) for m in j["model"]["merges"]]
    return j


def metaspace():
    """Like Llama 2: characters, a mark for the blank, bytes where a character is unknown."""
    tk = Tokenizer(models.BPE(unk_token="<unk>"))
    tk.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>"] + ["<0x%02X>" % b for b in range(256)]
    tk.train_from_iterator(SENTENCES[:8] * 2, trainers.BpeTrainer(
        vocab_size=520, special_tokens=special, show_progress=False))
    j = json.loads(tk.to_str())
    j["model"].update(byte_fallback=True, fuse_unk=True)
    n = len(j["model"]["vocab"])
    j["added_tokens"] = [added("<unk>", 0), added("<s>", 1)] + added_list(n)
    j["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    j["pre_tokenizer"] = None
    j["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    j["post_processor"] = {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                           "</s>": {"id": "</s>", "ids": [n + 1], "tokens": ["</s>"]}}}
    return j


def split(pattern, behavior, invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def variants():
    """(name, base, patch of the root, patch of the model)"""
    bl = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    pre = lambda *steps: {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}
    norm = lambda *steps: {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}
    ms = lambda **k: {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True} | k
    b, m = "byte_level.json", "metaspace.json"
    yield "as it is", b, {}, {}
    yield "as it is", m, {}, {}
    yield "without ignore_merges", b, {}, {"ignore_merges": False}
    yield "GPT-2 words", b, {"pre_tokenizer": bl | {"use_regex": True, "add_prefix_space": True}}, {}
    for f in ("NFD", "NFKC", "NFKD", "Lowercase"):
        yield f, b, norm({"type": f}), {}
    yield "Strip", b, norm({"type": "Strip", "strip_left": True, "strip_right": True}), {}
    yield "Strip right", b, norm({"type": "Strip", "strip_left": False, "strip_right": True}), {}
    yield "Replace by expression", b, norm({"type": "Replace", "pattern": {"Regex": r"\s+|\d"}, "content": "·"}), {}
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield f"{behavior} {invert}", b, pre(split(r"[aeiou]|\s|\d", behavior, invert), bl), {}
    yield "Split by string", b, pre(split(".", "MergedWithPrevious", kind="String"), bl), {}
    yield "escapes", b, pre(split(r"\w+|[^\w\s]|[\h\s]+|\S", "Isolated"), bl), {}
    yield "line ends", b, pre(split(r"^.|.$|(?=b)", "Isolated"), bl), {}
    for each in (False, True):
        yield f"Digits {each}", b, pre({"type": "Digits", "individual_digits": each}, bl), {}
    for t in ("Whitespace", "WhitespaceSplit"):
        yield t, b, pre({"type": t}, bl), {}
    yield "Punctuation", b, pre({"type": "Punctuation", "behavior": "Contiguous"}, bl), {}
    for scheme in ("always", "first", "never"):
        for cut in (False, True):
            step = ms(prepend_scheme=scheme, split=cut)
            yield f"Metaspace {scheme} {cut}", m, {"normalizer": None, "pre_tokenizer": step, "decoder": step}, {}
    yield "no bytes", m, {}, {"byte_fallback": False}
    yield "no bytes, no fusing", m, {}, {"byte_fallback": False, "fuse_unk": False}
    yield "no unknown", m, {}, {"byte_fallback": False, "unk_token": None}
    yield "no decoder", m, {"decoder": None}, {}
    yield "no post-processor", m, {"post_processor": None}, {}
    yield "two post-processors", m, {"post_processor": {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        metaspace()["post_processor"]]}}, {}
    # before Fuse: the library's Strip crashes where a text is empty
    yield "Strip the end", m, {"decoder": {"type": "Sequence", "decoders": [
        {"type": "Strip", "content": "▁", "start": 0, "stop": 1}, {"type": "Fuse"}]}}, {}


def byte_offsets(text, offsets):
    at = [0]
    for c in text:
        at.append(at[-1] + len(c.encode()))
    return [[at[a], at[b]] for a, b in offsets]


def digest(tk, text):
    """FNV-1a over the ids, the text they decode to, and that text without special tokens."""
    ids = tk.encode(text).ids
    h = 0x811c9dc5
    for data in (struct.pack("<%di" % len(ids), *ids), tk.decode(ids, skip_special_tokens=False).encode(),
                 tk.decode(ids, skip_special_tokens=True).encode()):
        for byte in data:
            h = (h ^ byte) * 0x01000193 & 0xffffffff
    return h


def case(name, base, tokenizer, patch, model, lines):
    """One variant; the first two also show ids, and ranges where no NFC makes the library's narrower."""
    j = json.loads(json.dumps(tokenizer))
    j.update(patch)
    j["model"].update(model)
    tk = Tokenizer.from_str(json.dumps(j))
    out = {"name": name, "base": base, "patch": patch, "model": model, "hashes": [digest(tk, t) for t in lines]}
    if name == "as it is":
        out["ids"] = [tk.encode(t).ids for t in lines[:60]]
        if base == "metaspace.json":
            out["ranges"] = [byte_offsets(t, tk.encode(t).offsets) for t in lines[:60]]
    return out


def write(name, data):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


def main():
    bases = {"byte_level.json": byte_level(), "metaspace.json": metaspace()}
    lines = texts(220, 1)
    for name, j in bases.items():
        write(name, j)
    write("cases.json", {"texts": lines, "cases": [
        case(name, base, bases[base], patch, model, lines) for name, base, patch, model in variants()]})
    if len(sys.argv) > 1:
        lines = texts(1500, 7)
        load = lambda name: Tokenizer.from_file(os.path.join(sys.argv[1], "tokenizers", name, "tokenizer.json"))
        write("real.json", {"texts": lines, "hashes": {
            name: [digest(tk, t) for t in lines] for name in ("llama2", "llama3", "qwen2_5")
            for tk in [load(name)]}})


main()
