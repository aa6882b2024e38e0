"""Makes more.jsonl: answers of our own, scored by lmms-eval's functions.

    git clone https://github.com/JT-Ushio/MHA2MLA-VLM FORK       # at 69a3c6e
    git clone https://github.com/EvolvingLMMs-Lab/lmms-eval NEW  # at 75571cf
    python tests/data/metric/make_golden.py FORK/lmms-eval NEW > tests/data/metric/more.jsonl

Python 3.11.7 (Unicode 14), numpy 2.4; nothing else has to be installed: what the files import beside is replaced by
empty modules. NEW is used for mmbench's "extracted_static", realworldqa-letter and scienceqa-letter, FORK for all else.
"extracted" is what was compared, null where the rules find no answer. `FORK NEW COUNT SEED` makes COUNT answers a
metric instead of the file's, for MHA2MLA_METRIC_CASES=FILE build/tests/test_metric.

lmms_eval.jsonl, 880 lines of the same form, was made before from the same two commits by another script, which was not
kept; `FORK NEW --check tests/data/metric/lmms_eval.jsonl` says whether the functions still give the same.

Left out, since we differ on purpose (docs/scores.md): zeros in a text, U+0130 where numpy cuts what it lowers."""

import ast
import importlib.util
import json
import math
import random
import re
import string
import sys
import types

import numpy as np

FORK, NEW = sys.argv[1] + "/lmms_eval/", sys.argv[2] + "/lmms_eval/"


class Empty(types.ModuleType):
    """Any name of it is a function that returns its first argument if that is one (a decorator), else None."""

    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *a, **k: a[0] if a and callable(a[0]) else None


for name in ("loguru openai requests tqdm pandas yaml lmms_eval lmms_eval.api lmms_eval.api.filter lmms_eval.filters "
             "lmms_eval.tasks lmms_eval.tasks._task_utils lmms_eval.tasks._task_utils.file_utils").split():
    sys.modules[name] = Empty(name)
    if "." in name:
        setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], sys.modules[name])
sys.modules["loguru"].logger = Empty("logger")
sys.modules["yaml"].safe_load = lambda text: {"metadata": {}}
sys.modules["pandas"].isna = lambda x: x is None
sys.modules["lmms_eval.api.filter"].Filter = object


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def functions(path, names):
    """Some functions of a file whose imports are not wanted."""
    tree = ast.parse(open(path).read())
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in names]
    for n in found:
        n.decorator_list = []
    module = types.ModuleType(path)
    module.__dict__.update(np=np, re=re, math=math, string=string)
    exec(compile(ast.Module(found, []), path, "exec"), module.__dict__)
    return module


utils = "lmms_eval.tasks._task_utils."
load(FORK + "filters/extraction.py", "lmms_eval.filters.extraction")
load(FORK + "filters/transformation.py", "lmms_eval.filters.transformation")
load(FORK + "tasks/_task_utils/vqa_eval_metric.py", utils + "vqa_eval_metric")
letter = load(NEW + "tasks/_task_utils/mcq_extract.py", utils + "mcq_extract")
metrics = functions(FORK + "api/metrics.py", ["exact_match_hf_evaluate", "levenshtein_distance", "anls"])
task = {t: load(FORK + f"tasks/{t}/utils.py", t)
        for t in "ai2d realworldqa seedbench pope chartqa mme scienceqa textvqa vqav2 mmmu".split()}
new = {t: load(NEW + f"tasks/{t}/utils.py", "new_" + t) for t in ["realworldqa", "scienceqa"]}
new["realworldqa"].print = lambda *a: None
task["mmmu"].random = types.SimpleNamespace(choice=lambda choices: None)
mmbench = load(FORK + "tasks/mmbench/mmbench_evals.py", "mmbench").MMBench_Evaluator()


def exact(answer, reference):
    return float(metrics.exact_match_hf_evaluate([answer], [reference], ignore_case=True,
                                                 ignore_punctuation=True)["exact_match"])


def filtered(case):
    """Filters see the raw answer; then the harness strips."""
    answer = [[case["answer"]]]
    if case["metric"] == "ai2d":
        return task["ai2d"].MultiChoiceRegexFilter().apply(answer, [{}])[0].strip()
    answer = task["realworldqa"].NumberWordsToDigitsFilter().apply(answer, [{}])
    return task["realworldqa"].MultiChoiceRegexFilter().apply(answer, [{"question": case["question"]}])[0].strip()


def science(module, answer, reference):
    return module.sqa_process_results({"choices": ["x"] * 26, "answer": ord(reference) - 65}, [answer])["exact_match"]


def seed(answer, reference):
    one = task["seedbench"].seed_process_result({"answer": reference, "data_type": "image", "question_id": 0}, [answer])
    return float(task["seedbench"].seed_aggregation_result([one["seed_all"]])), one["seed_all"]["pred"]


def pope(answer, reference):
    one = task["pope"].pope_process_results({"answer": reference, "question_id": 0}, [answer])["pope_accuracy"]
    return one["score"], one["prediction"]


def mme(answer, reference):
    doc = {"answer": reference, "category": "count", "question_id": 0}
    one = task["mme"].mme_process_results(doc, [answer])["mme_perception_score"]
    return one["score"], task["mme"].parse_pred_ans(answer)


def pope_official(answer, reference):
    """POPE's evaluate.py, as LLaVA has it: three lines, written anew."""
    words = answer.split(".")[0].replace(",", "").split(" ")
    said = "no" if "No" in words or "not" in words or "no" in words else "yes"
    return float(said == reference.lower().strip()), said


def score(case):
    """Adds to a case what the functions make of it."""
    kind, raw = case["metric"], case["answer"]
    answer, refs = raw.strip(), case.get("references") or [case.get("reference")]
    found = answer
    if kind == "mmbench":
        options = {"ABCD"[i]: text for i, text in enumerate(case["choices"][:4]) if text is not None}
        found = mmbench.can_infer(answer, dict(options)) or None
        static = found or letter.extract_mcq_answer(answer, choices=sorted(options)) or None
        return {**case, "extracted": found, "extracted_static": static}
    if kind == "exact":
        value = exact(answer, refs[0])
    elif kind in ("ai2d", "realworldqa"):
        found = filtered(case)
        value = exact(found, refs[0])
    elif kind == "realworldqa-letter":
        value = new["realworldqa"].realworldqa_process_results({"answer": refs[0]}, [answer])["exact_match"]
    elif kind in ("scienceqa", "scienceqa-letter"):
        value = science(task["scienceqa"] if kind == "scienceqa" else new["scienceqa"], answer, refs[0])
    elif kind in ("seed", "pope", "mme", "pope-official"):
        value, found = {"seed": seed, "pope": pope, "mme": mme, "pope-official": pope_official}[kind](answer, refs[0])
    elif kind == "relaxed":
        value = task["chartqa"].chartqa_process_results({"type": "", "answer": refs[0]}, [answer])["relaxed_overall"]
    elif kind == "anls":
        value = metrics.anls(refs, [answer])["anls"]
    elif kind == "vqa":
        one = task["textvqa"].textvqa_process_results({"answers": list(refs), "question_id": 0}, [answer])
        value, found = one["exact_match"], one["submission"]["answer"]
    elif kind == "vqav2":
        people = [{"answer": r, "answer_id": i} for i, r in enumerate(refs)]
        one = task["vqav2"].vqav2_process_results({"answers": people, "question_id": 0}, [answer])
        value, found = one["exact_match"], one["submission"]["answer"]
    elif kind == "mmmu":
        letters, choices = task["mmmu"].get_multi_choice_info(case["choices"])
        found = task["mmmu"].parse_multi_choice_response(answer, choices, {**letters}) if choices else None
        found = None if isinstance(found, type(None)) else str(found)
        value = float(task["mmmu"].eval_multi_choice(refs[0], found))
    return {**case, "extracted": found, "score": float(value)}


# ---- answers ----

ODD = list(" \t\n\x1c\u00a0\u3000.,:;!?()[]{}'\"%-+_/\\=*$@`") + \
    "é É e\u0301 ß ẞ ﬁ ŉ ᾈ Σ σ ς ʰ · ’ “ ” 。 Ａ ３ ٣ 𝟟 ² ⅓ Ⅳ K ǅ 中 あ İ 𝐀 \u200d".split(" ")
SHAPES = ["{}", "{}.", "({})", "{})", "{}:", "{},", ":{}", "[{}]", "**{}**", "The answer is {}", "the answer is {}.",
          "Answer: {}", "It is {}", "{} or {}", "{}, not {}.", "answer is {}. No, the answer is {}", "I choose {}",
          "({}) and not ({})", "{}\n{}", "Option {}", "My answer is {} because {} is wrong.", "A {} that is red",
          "so we see that the best option is {} here", "答案是{}", "정답은 {}", "{} {}", "{} {} {}"]
OPTIONS = [["cat", "dog", "a red bird", "fish"], ["yes", "no"], ["Left", "Right", "Straight on"], ["10", "11", "1", "0"],
           ["Apple", "apple pie", "pie", "10"], ["ΟΔΟΣ", "οδός", "STRASSE", "straße"], ["x", None, "nan", "y"], ["", "b"],
           ["None of the above", "All of the above", "Both", "Neither"], ["cat", "cat", "dog", "Cat"]]
QUESTIONS = ["How many?", "Which way?\n\nA. Left\nB. Straight\nC. Right\nPlease answer directly.",
             "Where is the U.S. flag?\nA. Left\nB. Right", "A. Yes\nB. No\nC. Not sure", "A. Red.\nB. Red and white\nC. 5",
             "xA. no\n_B. no\n(C. yes\nA.\n\nB. deep\n D.\u3000wide", "A. same\nB. same\nC. sa", "A. \n", "ÉA. one\n²B. two\n-C. ten"]
WORDS = ("zero one Two three TEN none eleven Left Straight Right right Red red White 5 yes no Yes No NO not maybe y n "
         "know nope Nope yesterday A B C D E F a b c cat dog fish bird same deep wide the an The don't dont shes "
         "couldnt've couldn'tve y'all'd've yall'd've somebody'd Kraft foods hello world ΟΔΟΣ İstanbul straße "
         "STRASSE 1,000 3.5 3. .5 x.y 2018, $5 100% 1/2 it's cat's").split()
NUMBERS = ("0 0.0 -0 1 10 10.5 10.51 9.5 9.49 105 95 0.105 0.1 1e1 1E+2 1e400 -1e400 1e-400 .5 5. +5 1_0 1__0 _1 1_ 1_.5 "
           "1e1_0 inf -inf Infinity nan NaN nan(1) 0x10 1,000 $5 12% 12.5% 0.12 10%% % 5% ٣ 1٣ ３.５ 𝟟 −5 1e 1e+ . e1 +-1 "
           "0.30000000000000004 1/3 1925 2019 12345678901234567890 0.95 1.05 1.0500000000000001 2.1 2 4.9406564584124654e-324").split()


def disturbed(r, text):
    for _ in range(r.choice([0, 0, 0, 1, 1, 2, 4])):
        at = r.randrange(len(text) + 1)
        text = text[:at] + r.choice(ODD) + text[at + r.choice([0, 0, 1]):]
    return text


def phrase(r):
    return disturbed(r, " ".join(r.choice(WORDS) for _ in range(r.choice([1, 1, 1, 2, 2, 3, 5, 8]))))


def like(r, reference):
    """The reference, often; with something changed, at times."""
    return disturbed(r, r.choice([reference, reference.upper(), reference.lower(), reference.capitalize(), phrase(r)]))


def lettered(r, options=()):
    parts = [r.choice("ABCDE") for _ in range(3)]
    shape = r.choice(SHAPES)
    named = [o for o in options if o]
    if named and r.random() < 0.4:
        parts = [r.choice(named) for _ in range(3)]
    text = shape.format(*parts[:shape.count("{}")])
    return disturbed(r, text if r.random() < 0.8 else text + " " + phrase(r))


def letter_for(r, answer):
    """One that stands in the answer, mostly."""
    return r.choice([c for c in "ABCD" if c in answer and r.random() < 0.8] or list("ABCD"))


def draw(r, kind):
    if kind in ("mmbench", "mmmu"):
        options = r.choice([o for o in OPTIONS if kind == "mmbench" or None not in o])
        case = {"metric": kind, "choices": options, "answer": lettered(r, options)}
        return case if kind == "mmbench" else {**case, "reference": letter_for(r, case["answer"])}
    if kind in ("pope", "pope-official", "mme"):
        reference = r.choice(["yes", "no", "Yes", " NO "])
        return {"metric": kind, "answer": like(r, r.choice(["yes", "no", "y", "n", "No, it is", "It is not"])),
                "reference": reference}
    if kind in ("vqa", "vqav2"):
        common = phrase(r)
        people = [r.choice([common, common, phrase(r), like(r, common)]) for _ in range(r.choice([10, 10, 10, 1, 3, 7]))]
        if r.random() < 0.2:
            people = [common] * len(people)
        return {"metric": kind, "answer": r.choice([common, like(r, common), r.choice(people)]), "references": people}
    if kind == "relaxed":
        reference = disturbed(r, r.choice(NUMBERS)) if r.random() < 0.8 else phrase(r)
        answer = r.choice([disturbed(r, r.choice(NUMBERS)), r.choice(NUMBERS), like(r, reference)])
        return {"metric": kind, "answer": answer, "reference": reference}
    if kind == "anls":
        refs = [phrase(r) for _ in range(r.choice([1, 1, 2, 3]))]
        return {"metric": kind, "answer": like(r, r.choice(refs)), "references": refs}
    if kind == "realworldqa":
        question = r.choice(QUESTIONS)
        answer = r.choice([lettered(r), phrase(r)])
        reference = r.choice([letter_for(r, answer), r.choice(["A", "B", "C", "2", "10", "yes"])])
        return {"metric": kind, "question": question, "answer": answer, "reference": reference}
    letters = kind != "exact" and not (kind == "realworldqa-letter" and r.random() < 0.4)
    reference = phrase(r)
    answer = r.choice([lettered(r), r.choice("ABCDabcd")]) if letters else like(r, reference)
    return {"metric": kind, "answer": answer, "reference": letter_for(r, answer) if letters else reference}


def fixed():
    """What answers at random may miss: every row of the functions' tables."""
    vqa = sys.modules[utils + "vqa_eval_metric"].EvalAIAnswerProcessor
    words = [*vqa.CONTRACTIONS, *vqa.NUMBER_MAP, *vqa.ARTICLES, "lets", "shes", "im", "ids"]
    marks = [f"x{m}y z{m} {m}u 1{m}2" for m in string.punctuation]
    for kind in ("vqa", "vqav2"):
        for text in (" ".join(words), ". " * 20 + "." * 20 + "x.", *marks, "1,000 (x) y-z", "2,,3 a-b"):
            yield {"metric": kind, "answer": text, "references": [text, "x"]}
    options = ["~1", "~2", "~3", "~4"]
    shapes = [b + "B" + a for b in ("", ":", "(") for a in ("", ".", ",", ":", ")", ").", ";")]
    for shape in shapes:
        yield {"metric": "mmbench", "choices": options, "answer": shape + " or none of these"}
        yield {"metric": "mmbench", "choices": options, "answer": f"A) or {shape} B: (A). none of these"}
        yield {"metric": "mmmu", "choices": options, "answer": f"x {shape} y", "reference": "B"}
        yield {"metric": "mmmu", "choices": options, "answer": f"x {shape} C. A D)", "reference": "B"}
    for said in letter._ANSWER_PHRASES:
        yield {"metric": "mmbench", "choices": options, "answer": f"z x(C)z {said.upper()} xDz"}
        for tail in ("answer is", "option is", "choice is"):
            yield {"metric": "mmbench", "choices": options, "answer": f"{tail} xA xB {said} xAz"}
    inside = ["({})", "{}.", "{}:", "{})", "{} "]
    for first in inside:
        for second in inside:
            text = "z x" + first.format("B") + "z x" + second.format("C") + "z"
            yield {"metric": "mmbench", "choices": options, "answer": text}
    for mark in string.punctuation + "\u3002":
        for text in (f"{mark}A{mark} x(B)z", f"x(B)z A{mark}"):
            yield {"metric": "mmbench", "choices": options, "answer": text}
        yield {"metric": "mmmu", "choices": options, "answer": f"x C. B{mark}", "reference": "B"}
    yield {"metric": "mmbench", "choices": options + ["fish"], "answer": "fish"}
    yield {"metric": "mmbench", "choices": [None, None], "answer": "x(G)"}
    for text in ("x C.z B.z", "x B xC y"):
        yield {"metric": "mmmu", "choices": options, "answer": text, "reference": "B"}
    for text in ("Right or Left", "same"):
        yield {"metric": "realworldqa", "question": QUESTIONS[6 if text == "same" else 1], "answer": text, "reference": "B"}
    for number in ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]:
        yield {"metric": "realworldqa", "question": "?", "answer": number, "reference": "1"}


COUNTS = {"exact": 60, "ai2d": 30, "realworldqa": 90, "realworldqa-letter": 60, "seed": 20, "pope": 20,
          "pope-official": 40, "mmbench": 120, "relaxed": 120, "anls": 60, "vqa": 120, "vqav2": 90, "mme": 50,
          "mmmu": 90, "scienceqa": 20, "scienceqa-letter": 30}


def wanted(case):
    """False: we differ on purpose."""
    cut = case["metric"] in ("exact", "ai2d", "realworldqa")
    return not (cut and "\u0130" in case["answer"] + case["reference"])


if sys.argv[3:4] == ["--check"]:
    for line in open(sys.argv[4]):
        known = json.loads(line)
        case = {k: v for k, v in known.items() if k not in ("score", "extracted", "extracted_static")}
        assert known.items() <= score(case).items(), line
else:
    for case in fixed():
        print(json.dumps(score(case), ensure_ascii=False))
    count, start = (int(sys.argv[3]), int(sys.argv[4])) if len(sys.argv) > 4 else (0, 1)
    for kind, few in COUNTS.items():
        r = random.Random(f"{kind} {start}")
        left = count or few
        while left:
            case = draw(r, kind)
            if wanted(case):
                print(json.dumps(score(case), ensure_ascii=False))
                left -= 1
