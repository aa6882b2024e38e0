#!/usr/bin/env python3
"""Makes tests/data/lm_eval/*.jsonl: what lm-evaluation-harness asks of made-up documents of six tasks, and
what it makes of made-up log-likelihoods.

Ran with lm_eval 0.4.13, jinja2 3.1.6, PyYAML 6.0.4, numpy 2.4.6 (Python 3.11):

    python3 -m venv V && V/bin/pip install --no-deps lm_eval==0.4.13 jinja2 markupsafe pyyaml numpy
    V/bin/python tests/data/lm_eval/make_golden.py

The tasks' own YAML and Python files are used, and ConfigurableTask.process_results. What lm_eval imports
but is not needed for that is stubbed. TASK.docs.jsonl are the documents as the importer reads them;
TASK.asked.jsonl their contexts, continuations and label; scores.jsonl lines as `mha2mla-data score` reads
them, with the scores.
"""
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import sys
import types

NEEDED = {"datasets", "evaluate", "tqdm", "sacrebleu", "sklearn", "dill", "more_itertools", "pytablewriter",
          "rouge_score", "sqlitedict", "torch", "transformers", "word2number", "zstandard", "requests",
          "tenacity", "jsonlines"}


class Stub(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in NEEDED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = Stub(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())

import jinja2  # noqa: E402
import lm_eval  # noqa: E402
import yaml  # noqa: E402
from lm_eval.api.task import ConfigurableTask  # noqa: E402

TASKS = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
OUT = os.path.dirname(os.path.abspath(__file__))

DOCS = {
    "hellaswag": [
        {"ind": 24, "activity_label": "Roof shingle removal", "ctx_a": "A man is sitting on a roof.",
         "ctx_b": "he", "ctx": "A man is sitting on a roof. he",
         "endings": ["is using wrap to wrap a pair of skis.", "is ripping level tiles off.",
                     "is holding a rubik's cube.", "starts pulling up roofing on a roof."], "label": 3},
        {"ind": 7, "activity_label": "Home and Garden",
         "ctx_a": "[header] How to clean a brick [title] Sweep it. [step] Use a broom.  Then", "ctx_b": "",
         "endings": ["[substeps] Wait. [title] Rinse it.", "go  home. ", " ÜBER it all", "[a] [b]x"], "label": "1"},
        {"ind": 8, "activity_label": "Baking", "ctx_a": "The dough ", "ctx_b": "ÉLAN rises AND",
         "endings": ["falls.", "is é.", "x", "y [z"], "label": "0"},
    ],
    "arc": [
        {"id": "M1", "question": "Which is hot?", "choices": {"text": ["ice", "fire", "snow", "rain"],
                                                              "label": ["A", "B", "C", "D"]}, "answerKey": "B"},
        {"id": "M2", "question": "Two  blanks,\na line: which?", "choices":
            {"text": ["un œuf", "two", "three"], "label": ["1", "2", "3"]}, "answerKey": "3"},
    ],
    "piqa": [
        {"id": "p1", "goal": "To open a jar, ", "sol1": "turn the lid", "sol2": "break it", "label": 0},
        {"id": "p2", "goal": "How do I dry socks?", "sol1": "in a fridge", "sol2": "on a line", "label": 1},
    ],
    "openbookqa": [
        {"id": "o1", "question_stem": "The sun is", "choices": {"text": ["a star", "a moon", "a tree", "a dog"],
                                                               "label": ["A", "B", "C", "D"]}, "answerKey": "A"},
        {"id": "o2", "question_stem": "Frogs", "choices": {"text": ["fly", "sing opera", "leap", "read"],
                                                           "label": ["A", "B", "C", "D"]}, "answerKey": " C"},
    ],
    "winogrande": [
        {"qID": "w1", "sentence": "The trophy does not fit in the case because the _ is too big.",
         "option1": "trophy", "option2": "case", "answer": "1"},
        {"qID": "w2", "sentence": "_ gave Ann a book, as she likes to read . ", "option1": "Eve", "option2": "Ann",
         "answer": "2"},
    ],
    "mmlu": [
        {"id": "m1", "question": " What is 2 + 2? ", "subject": "abstract_algebra", "choices": ["3", "4", "5", "6"],
         "answer": 1},
        {"id": "m2", "question": "Who?", "subject": "high_school_us_history", "choices": ["I", "you", "he", "é"],
         "answer": 3},
    ],
}
FILES = {"hellaswag": "hellaswag/hellaswag.yaml", "arc": "arc/arc_easy.yaml", "piqa": "piqa/piqa.yaml",
         "openbookqa": "openbookqa/openbookqa.yaml", "winogrande": "winogrande/default.yaml",
         "mmlu": "mmlu/default/_default_template_yaml"}


def load(task):
    folder = os.path.join(TASKS, os.path.dirname(FILES[task]))

    class Loader(yaml.SafeLoader):
        pass

    def function(loader, node):
        file, name = node.value.rsplit(".", 1)
        spec = importlib.util.spec_from_file_location(file, os.path.join(folder, file + ".py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, name)

    Loader.add_constructor("!function", function)
    with open(os.path.join(TASKS, FILES[task])) as f:
        return yaml.load(f, Loader)


class Mapped(list):
    def map(self, f):
        return [{**doc, **f(doc)} for doc in self]


def render(template, doc):
    if callable(template):
        return template(doc)
    if isinstance(template, list):
        return template
    if template in doc:
        return doc[template]
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    text = env.from_string(template).render(**doc)
    try:  # as doc_to_target and doc_to_choice do
        import ast
        return ast.literal_eval(text) if not isinstance(template, str) or "Question" not in template and \
            "Answer" not in template else text
    except (ValueError, SyntaxError):
        return text


def asked(task, config, doc, raw):
    text, choices = render(config["doc_to_text"], doc), render(config["doc_to_choice"], doc)
    target = render(config["doc_to_target"], doc)
    description = ""
    if task == "mmlu":
        with open(os.path.join(TASKS, "mmlu/default/mmlu_%s.yaml" % raw["subject"])) as f:
            description = yaml.safe_load(f)["description"]
    if isinstance(text, int):  # several contexts
        return {"contexts": choices, "continuation": target, "label": text}
    label = choices.index(target) if isinstance(target, str) and not target.isdigit() else int(target)
    return {"context": description + text, "choices": choices, "label": label}


def write(name, lines):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        for line in lines:
            f.write(json.dumps(line, ensure_ascii=False) + "\n")


def scored(rng, i):
    n = rng.randrange(2, 6)
    choices = ["".join(rng.choice("abé œ漢") for _ in range(rng.randrange(1, 12))) for _ in range(n)]
    logp = [-float(rng.randrange(1, 400)) / rng.choice([7, 10, 16]) for _ in range(n)]
    if rng.random() < 0.2:
        logp = [logp[0]] * n  # the first of equals
    label = rng.randrange(n)

    class Task:
        config = types.SimpleNamespace(process_results=None)
        _metric_fn_list = {"acc": 0, "acc_norm": 0, "acc_bytes": 0}
        OUTPUT_TYPE = "multiple_choice"
        multiple_input = 0
        multiple_target = 0

        def doc_to_choice(self, doc):
            return choices

        def doc_to_target(self, doc):
            return label

    got = ConfigurableTask.process_results(Task(), {}, [(x, False) for x in logp])
    return {"id": str(i), "metric": "choice", "choices": choices, "label": label, "logp": logp,
            "want": {k: float(v) for k, v in got.items()}}


def main():
    for task, docs in DOCS.items():
        config = load(task)
        made = Mapped(docs)
        if config.get("process_docs"):
            made = config["process_docs"](made)
        write(task + ".docs.jsonl", docs)
        write(task + ".asked.jsonl", [asked(task, config, doc, raw) for doc, raw in zip(made, docs)])
    rng = random.Random(1)
    write("scores.jsonl", [scored(rng, i) for i in range(200)])


if __name__ == "__main__":
    main()
