"""Makes the tokenizer tests' data: two tiny tokenizers, cases.json (what they and many variants of
them give) and real.json (what published tokenizers give).

    pip install tokenizers==0.23.3
    python tests/data/tokenizer/make_golden.py [REAL]

REAL is a directory that holds tokenizers/NAME/tokenizer.json (data/fetch-real-data.sh, and
fetch_more.py beside this script) and corpus/SET.bin (make_corpus.py), which are not part of this
project; without it real.json stays as it is.

A hash is CRC-32 over the ids (32 bits each), the text they decode to, and that text without special
tokens; one hash covers a block of texts."""

import hashlib
import json
import os
import random
import struct
import sys
import zlib

import fuzz
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

BLOCK = 250
SETS = ["captions", "names", "unicode", "prose", "messages", "source"]
# published tokenizers and what they are tried on: those of the models that this project reads on all
REAL = {"llama2": SETS, "llama3": SETS, "qwen2_5": SETS, "smollm2": SETS, "mistral": ["captions", "unicode"],
        "deepseek_v3": ["captions", "unicode"], "gpt4o": ["captions", "unicode"], "qwen3": ["captions", "unicode"],
        "gemma3": ["captions", "unicode"]}

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


GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CLASSES = [r"\p{L}", r"\p{Lu}", r"\p{Ll}|\p{Lt}", r"\p{Lm}", r"\p{Lo}", r"\p{M}", r"\p{N}", r"\p{Nd}", r"\p{Nl}|\p{Me}",
           r"\p{P}", r"\p{Pc}|\p{Pd}", r"\p{Po}|\p{Ps}|\p{Pe}", r"\p{S}", r"\p{Sm}|\p{Sc}|\p{Sk}", r"\p{So}", r"\p{Z}|\p{Cc}",
           r"\p{Cf}", r"\w", r"\W", r"\s|\d", r"[\S]", r"\D", r"[^\s\p{L}\p{N}]", r"\P{L}", r"\h", r"\H",
           r"\p{Han}|\p{Latin}", r"\p{Hiragana}|\p{Cyrillic}", r"\p{Katakana}|\p{Greek}", r"\p{Hangul}|\p{Arabic}",
           r"\p{Thai}|\p{Hebrew}|\p{Devanagari}", r"(?i:'s|k|é|ω|[x-z])", r"[\v\t\u00e9\x{300}-\x{30f}\x41\-\]]", r"[一-龥぀-ゟ゠-ヿ]"]


def variants():
    """Each a base with members of the root and of the model replaced; "chars": tried on every character."""
    def one(name, base, patch=None, model=None, chars=False):
        return {"name": name, "base": base, "patch": patch or {}, "model": model or {}, "chars": chars}

    bl = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    pre = lambda *steps: {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}
    norm = lambda *steps: {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}
    ms = lambda **k: {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True} | k
    b, m = "byte_level.json", "metaspace.json"
    yield one("as it is", b, chars=True)
    yield one("as it is", m)
    yield one("without ignore_merges", b, {}, {"ignore_merges": False})
    yield one("GPT-2 words", b, {"pre_tokenizer": bl | {"use_regex": True, "add_prefix_space": True}})
    yield one("GPT-4o words", b, pre(split(GPT4O, "Removed", True), bl))
    yield one("DeepSeek words", b, pre(
        split(r"\p{N}{1,3}", "Isolated"), split(r"[一-龥぀-ゟ゠-ヿ]+", "Isolated"),
        split(r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
              r"|\s*[\r\n]+|\s+(?!\S)|\s+", "Isolated"), bl))
    yield one("SmolLM2 words", b, pre({"type": "Digits", "individual_digits": True}, bl | {"use_regex": True}))
    yield one("Gemma words", m, {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                                 "pre_tokenizer": split(" ", "MergedWithPrevious", kind="String")})
    for f in ("NFD", "NFKC", "NFKD", "Lowercase"):
        yield one(f, b, norm({"type": f}), chars=True)
    yield one("Strip", b, norm({"type": "Strip", "strip_left": True, "strip_right": True}))
    yield one("Strip right", b, norm({"type": "Strip", "strip_left": False, "strip_right": True}))
    yield one("Replace by expression", b, norm({"type": "Replace", "pattern": {"Regex": r"\s+|\d"}, "content": "·"}))
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield one(f"{behavior} {invert}", b, pre(split(r"[aeiou]|\s|\d", behavior, invert), bl))
    yield one("Split by string", b, pre(split(".", "MergedWithPrevious", kind="String"), bl))
    yield one("escapes", b, pre(split(r"\w+|[^\w\s]|[\h\s]+|\S", "Isolated"), bl))
    yield one("line ends", b, pre(split(r"^.|.$|(?=b)", "Isolated"), bl))
    yield one("lazy and possessive", b, pre(split(r"\w{2,4}?|\s++|(?<=\.).|\p{P}{2,}|(?<!a)\S\z", "Isolated"), bl))
    for regex in CLASSES:
        yield one("class " + regex, b, pre(split(regex, "Removed"), bl) | {"normalizer": None}, chars=True)
    for each in (False, True):
        yield one(f"Digits {each}", b, pre({"type": "Digits", "individual_digits": each}, bl))
    for t in ("Whitespace", "WhitespaceSplit"):
        yield one(t, b, pre({"type": t}, bl), chars=True)
    for behavior in ("Contiguous", "Removed"):
        yield one("Punctuation " + behavior, b, pre({"type": "Punctuation", "behavior": behavior}, bl),
                  chars=behavior == "Removed")
    # a digit and a letter would merge with the mark that stands before digits only
    yield one("every digit", b, pre({"type": "Digits", "individual_digits": True}, bl | {"add_prefix_space": True}), chars=True)
    for scheme in ("always", "first", "never"):
        for cut in (False, True):
            step = ms(prepend_scheme=scheme, split=cut)
            yield one(f"Metaspace {scheme} {cut}", m, {"normalizer": None, "pre_tokenizer": step, "decoder": step})
    yield one("no bytes", m, {}, {"byte_fallback": False})
    yield one("no bytes, no fusing", m, {}, {"byte_fallback": False, "fuse_unk": False})
    yield one("no unknown", m, {}, {"byte_fallback": False, "unk_token": None})
    few = metaspace()["model"]["merges"][:30]
    yield one("a merge listed twice", m, {}, {"merges": few + few[:1]})
    yield one("no decoder", m, {"decoder": None})
    yield one("no post-processor", m, {"post_processor": None})
    yield one("two post-processors", m, {"post_processor": {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        metaspace()["post_processor"]]}})
    # before Fuse: the library's Strip crashes where a text is empty
    yield one("Strip the end", m, {"decoder": {"type": "Sequence", "decoders": [
        {"type": "Strip", "content": "▁", "start": 0, "stop": 1}, {"type": "Fuse"}]}})


def byte_offsets(text, offsets):
    at = [0]
    for c in text:
        at.append(at[-1] + len(c.encode()))
    return [[at[a], at[b]] for a, b in offsets]


def digest(tk, ids, crc=0):
    crc = zlib.crc32(struct.pack("<%di" % len(ids), *ids), crc)
    crc = zlib.crc32(tk.decode(ids, skip_special_tokens=False).encode(), crc)
    return zlib.crc32(tk.decode(ids, skip_special_tokens=True).encode(), crc)


def blocks(tk, lists, size=BLOCK):
    """Of lists of ids: how many there are, and a hash per block."""
    out, n = [], 0
    for n, ids in enumerate(lists):
        if n % size == 0:
            out.append(0)
        out[-1] = digest(tk, ids, out[-1])
    return {"n": n + 1, "block": size, "crc": out}


def random_blocks(tk, data, n_texts, n_ids):
    size = 1 + max(tk.get_vocab(with_added_tokens=True).values())
    texts = [fuzz.text(i, data["pieces"]) for i in range(n_texts)]
    return {"random": blocks(tk, (e.ids for e in tk.encode_batch_fast(texts))),
            "ids": blocks(tk, (fuzz.ids(i, size) for i in range(n_ids)))}


def case(one, tokenizer, lines, data):
    """One variant; the first two also show ids, and ranges where no NFC makes the library's narrower."""
    j = json.loads(json.dumps(tokenizer))
    j.update(one["patch"])
    j["model"].update(one["model"])
    tk = Tokenizer.from_str(json.dumps(j))
    first = one["name"] == "as it is"
    out = one | {"texts": blocks(tk, (tk.encode(t).ids for t in lines), 1 if first else 10)}
    out |= random_blocks(tk, data, 10000 if first else 1000, 10000 if first else 1000)
    if one["chars"]:
        out["chars"] = blocks(tk, (tk.encode(t).ids for t in fuzz.char_texts(data["chars"])))
    if first:
        out["shown"] = [tk.encode(t).ids for t in lines[:60]]
        if one["base"] == "metaspace.json":
            out["ranges"] = [byte_offsets(t, tk.encode(t).offsets) for t in lines[:60]]
    return out


def write(name, data):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


def file_hash(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def real(root, data):
    corpus, out = {}, {}
    for name in SETS:
        path = os.path.join(root, "corpus", name + ".bin")
        with open(path, "rb") as f:
            corpus[name] = [r.decode() for r in fuzz.records(f.read())]
    for name, sets in REAL.items():
        path = os.path.join(root, "tokenizers", name, "tokenizer.json")
        tk = Tokenizer.from_file(path)
        out[name] = {"sha256": file_hash(path)} | random_blocks(tk, data, 50000, 50000) | {"corpus": {
            s: blocks(tk, (e.ids for e in tk.encode_batch_fast(corpus[s]))) for s in sets}}
        print(name, flush=True)
    return {"corpus": {s: file_hash(os.path.join(root, "corpus", s + ".bin")) for s in corpus}, "tokenizers": out}


def main():
    bases = {"byte_level.json": byte_level(), "metaspace.json": metaspace()}
    lines, data = texts(220, 1), fuzz.load()
    for name, j in bases.items():
        write(name, j)
    write("cases.json", {"texts": lines, "cases": [case(one, bases[one["base"]], lines, data) for one in variants()]})
    if len(sys.argv) > 1:
        write("real.json", real(sys.argv[1], data))


main()
