"""Draws directories of tokenizer files (tokenizer.json, tokenizer_config.json, special_tokens_map.json,
added_tokens.json, config.json) and compares what tokenizer_open makes of them with transformers'
AutoTokenizer: ids of texts, and what they decode to.

    pip install transformers==5.24.0 tokenizers==0.23.3 sentencepiece==0.2.3
    make build/bench/tokenize
    python tests/data/tokenizer/fuzz_form.py SEED DIRECTORIES       compares
    python tests/data/tokenizer/fuzz_form.py --golden               writes form.json

form.json holds drawn directories, and one vocabulary in the ways in which published Llama and LLaVA
checkpoints have it, beside what sentencepiece makes of it (trained on a few sentences).

Left out are vocabularies that are ByteLevel where the class is not, or the other way round: there
transformers makes a tokenizer that knows next to nothing, ours reads tokenizer.json as it is."""

import json
import os
import random
import re
import struct
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from tokenizers import Tokenizer  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

import fuzz_small  # noqa: E402
from fuzz import records  # noqa: E402
from fuzz_small import flag, guarded, ours, put_records  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
CONTENTS = ["<image>", "<pad>", "<s>", "</s>", "<unk>", "<x>", " ", "  ", "a", "ab", "▁a", "[W]", "<|endoftext|>", "é"]
NAMES = ["bos_token", "eos_token", "unk_token", "pad_token", "mask_token", "image_token"]
WORDS = ["a", "ab", "b", " ", "  ", "\n", "USER:", "é", "1", "12", "'s", "What", "▁", "한", "x", ".", "\t"] + CONTENTS * 2


def flags(r, content):
    return {"content": content, "single_word": flag(r, 0.1), "lstrip": flag(r, 0.2), "rstrip": flag(r, 0.2), "normalized": flag(r, 0.4),
            "special": flag(r, 0.6)}


def merges_of(words):
    out, tokens = [], []
    for w in words:
        for i in range(1, len(w)):
            if [w[:i], w[i]] not in out:
                out.append([w[:i], w[i]])
                tokens.append(w[:i + 1])
    return out, tokens


def model(r, level):
    if level:
        merges, made = merges_of(["ab", "Ġa", "Ġab", "What", "12", "Ċ"])
        tokens = list(fuzz_small.LEVEL.values()) + made
    else:
        merges, made = merges_of(["ab", "▁a", "▁ab", "▁What", "12", "▁▁", "▁▁▁"])
        tokens = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)] + list("ab▁USER:1x.What2é'") + made
    tokens = list(dict.fromkeys(tokens))
    return {"type": "BPE", "dropout": None, "unk_token": None if level else "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": not level, "byte_fallback": not level, "ignore_merges": flag(r),
            "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges}


def tokenizer(r, level):
    m = model(r, level)
    added, size = [], len(m["vocab"])
    for content in r.sample(CONTENTS, r.randint(1, 6)):
        added.append({"id": m["vocab"].get(content, size)} | flags(r, content))
        size += content not in m["vocab"]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    back = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}] + [strip] * flag(r, 0.7)
    first = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": r.choice(["first", "always", "never"]), "split": False}
    old = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    bos = r.choice(added)
    post = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": bos["content"], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos["content"]: {"id": bos["content"], "ids": [bos["id"]], "tokens": [bos["content"]]}}}
    words = {"type": "ByteLevel", "add_prefix_space": flag(r), "trim_offsets": True, "use_regex": flag(r)}
    legacy = flag(r, 0.5)
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None if level or not legacy else old,
            "pre_tokenizer": words if level else None if legacy else first, "post_processor": post if flag(r, 0.6) else None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True} if level
            else {"type": "Sequence", "decoders": back}, "model": m}


def special(r, typed=True):
    content = r.choice(CONTENTS)
    kind = r.random()
    if kind < 0.1:
        return None
    return content if kind < 0.7 else flags(r, content) | ({"__type": "AddedToken"} if typed else {})


def maybe(r, out, key, draw, p=0.5):
    if flag(r, p):
        out[key] = draw()


def config(r, level):
    out = {}
    maybe(r, out, "tokenizer_class", lambda: r.choice(["PreTrainedTokenizerFast", "TokenizersBackend", "NoSuchTokenizer"] + (
        ["Qwen2Tokenizer", "Qwen2TokenizerFast", "GPT2Tokenizer", "LlamaTokenizerFast"] if level else ["LlamaTokenizer", "LlamaTokenizerFast"] * 3)), 0.9)
    maybe(r, out, "legacy", lambda: r.choice([True, False, None]))
    maybe(r, out, "add_prefix_space", lambda: r.choice([True, False, None]), 0.3)
    maybe(r, out, "add_bos_token", lambda: flag(r, 0.5))
    maybe(r, out, "add_eos_token", lambda: flag(r, 0.5))
    maybe(r, out, "added_tokens_decoder", lambda: {str(300 + i): flags(r, c) for i, c in enumerate(r.sample(CONTENTS, r.randint(0, 6)))})
    maybe(r, out, r.choice(["extra_special_tokens", "additional_special_tokens"]), lambda: r.sample(CONTENTS, r.randint(0, 2)), 0.3)
    for name in NAMES:
        maybe(r, out, name, lambda: special(r) if name != "image_token" else r.choice(CONTENTS), 0.35)
    return out


def files(r):
    level = flag(r, 0.35)
    types = ["llama", "llava", "llava_next"] + (["qwen2", "qwen2_vl", "qwen2_5_vl"] if level else ["llama"] * 3)
    out = {"tokenizer.json": tokenizer(r, level), "config.json": {"model_type": r.choice(types)}}
    maybe(r, out, "tokenizer_config.json", lambda: config(r, level), 0.95)
    maybe(r, out, "special_tokens_map.json", lambda: {n: special(r, False) or "a" for n in r.sample(NAMES[:5], r.randint(0, 3))}, 0.3)
    maybe(r, out, "added_tokens.json", lambda: {c: 300 + i for i, c in enumerate(r.sample(CONTENTS, r.randint(0, 4)))}, 0.3)
    return out


def write(where, d):
    for name, j in d.items():
        with open(os.path.join(where, name), "w") as f:
            json.dump(j, f)


def text(r):
    return "".join(r.choice(WORDS) for _ in range(r.randint(0, 10)))


def theirs(tk, t):
    """Ids, and what they decode to, without special tokens too."""
    ids = tk(t).input_ids
    return ids, [tk.decode(ids), tk.decode(ids, skip_special_tokens=True)]


def differ(what, d, tk, t, want, got, count):
    count["different"] += 1
    if count["different"] <= 6:
        shown = {k: v for k, v in d.items() if k != "tokenizer.json"} | {"added_tokens": d["tokenizer.json"]["added_tokens"]}
        print("---- %s, %s\n%s\n%r\n%s\n%s" % (what, type(tk).__name__, json.dumps(shown), t, want, got), flush=True)


def compare(r, n, count):
    d = files(r)
    with tempfile.TemporaryDirectory() as where, tempfile.NamedTemporaryFile() as f:
        write(where, d)
        tk = guarded(AutoTokenizer.from_pretrained, where)
        texts = [text(r) for _ in range(n)]
        pairs = [(t, w) for t, w in ((t, guarded(theirs, tk, t)) for t in texts) if w is not None]
        put_records(f, [t.encode() for t, _ in pairs], 1)
        name = "%s@%s" % (where, d["config.json"]["model_type"])
        out, err = ours("ids", name, f.name)
        count["directories"] += 1
        if tk is None or out is None:
            count["refused by both" if tk is None and out is None else "refused by us" if out is None else "accepted by us alone"] += 1
            if tk is not None:
                print("refused by us:", err[:300])
            return
        same = []
        for (t, want), got in zip(pairs, records(out, 4)):
            got = list(struct.unpack("<%di" % (len(got) // 4), got))
            count["texts"] += 1
            if got == want[0]:
                same.append((t, want))
            else:
                differ("ids", d, tk, t, tk.convert_ids_to_tokens(want[0]), tk.convert_ids_to_tokens(got), count)
        for skip in (False, True):
            with tempfile.NamedTemporaryFile() as g:
                put_records(g, [struct.pack("<%di" % len(w[0]), *w[0]) for _, w in same], 4)
                out, err = ours("text", name, g.name, *["skip"] * skip)
            for (t, want), got in zip(same, records(out)):
                count["decoded"] += 1
                if want[1][skip] != got.decode():
                    differ("decoded", d, tk, t, want[1][skip], got.decode(), count)


# ---- golden values ----

LLAVA_TEXTS = ["USER: <image>\nWhat is in the picture? ASSISTANT: A dog.</s>USER: Where? ASSISTANT: Here.</s>", "USER: <image>\nWhat", "<image>",
               " <image> a", "<image> <image>", "a</s> b</s>", " a", "a", "", "▁a", "  a  b ", "<s>a", "x<pad>y", "läuft 12 犬 😀\n"]


def spm_tokenizer(where):
    """A small sentencepiece model of Llama's kind, and the tokenizer.json that old conversions make of it."""
    import sentencepiece as spm
    from tokenizers.models import BPE
    from transformers.convert_slow_tokenizer import SentencePieceExtractor

    with open(os.path.join(HERE, "make_golden.py"), encoding="utf-8") as f:
        lines = f.read().split('SENTENCES = """')[1].split('"""')[0]
    text, name = os.path.join(where, "lines"), os.path.join(where, "m")
    with open(text, "w") as f:
        f.write(lines * 3)
    spm.SentencePieceTrainer.train(
        input=text, model_prefix=name, vocab_size=450, model_type="bpe", byte_fallback=True, character_coverage=0.99,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
        num_threads=1, hard_vocab_limit=False)
    got = SentencePieceExtractor(name + ".model").extract(BPE)
    n = len(got["vocab"])
    add = lambda content, id: dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    d = tokenizer(random.Random(1), False)
    d["added_tokens"] = [add("<unk>", 0), add("<s>", 1), add("</s>", 2), add("<image>", n), add("<pad>", n + 1)]
    d["model"].update(vocab=got["vocab"], merges=[list(m) for m in got["merges"]], ignore_merges=False)
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    d.update(normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
                                                             {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
             pre_tokenizer=None, decoder={"type": "Sequence", "decoders": [
                 {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]},
             post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                             "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}})
    return d, spm.SentencePieceProcessor(model_file=name + ".model")


def sentencepiece_ids(sp, tokens, t):
    """As LLaVA's training code: the pieces between special tokens, one by one, behind <s>."""
    ids = {a["content"]: a["id"] for a in tokens}
    return [1] + [i for part in re.split("(%s)" % "|".join(map(re.escape, ids)), t) if part for i in ([ids[part]] if part in ids else sp.encode(part))]


def llava_cases(base, sp):
    """(files beside tokenizer.json, model_type, form, what the notes say)"""
    flags_ = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    llama = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    anew = "tokenizer.json's vocabulary as LlamaTokenizer makes it, "
    for cfg, model_type, note in (
            (None, "llama", "tokenizer.json as it is (no tokenizer_class is named)"),
            (llama, "llama", anew + "a blank before the text, none behind special tokens (legacy is not true) (tokenizer_class is LlamaTokenizer)"),
            (llama | {"legacy": False, "tokenizer_class": "LlamaTokenizerFast"}, "llama", anew + "a blank before the text, none"),
            (llama | {"legacy": True}, "llama", anew + "a blank before each text between special tokens (legacy is true)"),
            (llama | {"add_prefix_space": False}, "llama", anew + "no blank before a text (add_prefix_space is false)"),
            (llama | {"legacy": False}, "llava", "tokenizer.json as it is (transformers does so for model_type llava)"),
            (llama | {"tokenizer_class": "CodeGenTokenizer2"}, "llama", "tokenizer_class CodeGenTokenizer2, which may build another, is not known here"),
            (llama | {"tokenizer_class": "GPT2Tokenizer"}, "llava_next", "tokenizer.json as it is"),
            (llama | {"tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": ["<x>"]}, "llama", "tokens that stand only beside tokenizer.json: 1;"),
            (llama | {"add_bos_token": False}, "llava", "add_bos_token is false in tokenizer_config.json, but tokenizer.json's post_processor"),
            (llama | {"added_tokens_decoder": {"0": {"content": "<unk>"} | flags_, "1": {"content": "<s>"} | flags_, "2": {"content": "</s>"} | flags_}}, "llama",
             "2 added tokens of tokenizer.json are none here"),
            (llama | {"added_tokens_decoder": {"2": {"content": "</s>"} | flags_ | {"rstrip": True}}}, "llava", "tokens with other flags in tokenizer_config.json")):
        yield {} if cfg is None else {"tokenizer_config.json": cfg}, model_type, "auto", note
    yield {"tokenizer_config.json": llama}, "llama", "file", "tokenizer.json as it is (as model.tokenizer_form says;"
    yield {"tokenizer_config.json": llama}, "llama", "sentencepiece", "as sentencepiece makes it, a blank before each text between special tokens"


def decoded(tk, ids):
    return [tk.decode(ids, skip_special_tokens=skip) for skip in (False, True)]


def golden():
    cases = []
    with tempfile.TemporaryDirectory() as tmp:
        base, sp = spm_tokenizer(tmp)
        plain = Tokenizer.from_str(json.dumps(base))
        for i, (beside, model_type, form, note) in enumerate(llava_cases(base, sp)):
            where = os.path.join(tmp, str(i))
            os.mkdir(where)
            write(where, beside | {"tokenizer.json": base, "config.json": {"model_type": model_type}})
            tk = AutoTokenizer.from_pretrained(where)
            ids = {"auto": lambda t: tk(t).input_ids, "file": lambda t: plain.encode(t).ids,
                   "sentencepiece": lambda t: sentencepiece_ids(sp, base["added_tokens"], t)}[form]
            cases.append({"files": beside, "model_type": model_type, "form": form, "note": note, "texts": [
                {"text": t, "ids": ids(t)} | ({"decoded": decoded(tk, ids(t))} if form == "auto" else {}) for t in LLAVA_TEXTS]})
        kinds, i = {}, 0
        while sum(kinds.values()) < 15:
            r = random.Random("form golden %d" % i)
            i += 1
            d, where = files(r), os.path.join(tmp, "r%d" % i)
            os.mkdir(where)
            write(where, d)
            tk = guarded(AutoTokenizer.from_pretrained, where)
            got = [(t, guarded(theirs, tk, t)) for t in (text(r) for _ in range(12))]
            kind = type(tk).__name__
            post = d["tokenizer.json"]["post_processor"]  # its token must be one
            if tk is None or kinds.get(kind, 0) == 4 or (post and post["single"][0]["SpecialToken"]["id"] not in tk.get_vocab()):
                continue
            kinds[kind] = kinds.get(kind, 0) + 1
            cases.append({"tokenizer": d.pop("tokenizer.json"), "files": {k: v for k, v in d.items() if k != "config.json"},
                          "model_type": d["config.json"]["model_type"], "form": "auto", "note": kind if kind != "TokenizersBackend" else "as it is",
                          "texts": [{"text": t, "ids": w[0], "decoded": w[1]} for t, w in got if w is not None]})
    with open(os.path.join(HERE, "form.json"), "w", encoding="utf-8") as f:
        json.dump({"tokenizer": base, "cases": cases}, f, separators=(",", ":"))
        f.write("\n")


def main():
    if sys.argv[1:] == ["--golden"]:
        return golden()
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    count = dict.fromkeys(["directories", "refused by both", "refused by us", "accepted by us alone", "texts", "decoded", "different"], 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for i in range(int(sys.argv[2])):
        compare(random.Random("form %s %d" % (sys.argv[1], i)), 20, count)
    print(", ".join("%s: %d" % k for k in count.items()))
    sys.exit(count["different"] > 0)


if __name__ == "__main__":
    main()
