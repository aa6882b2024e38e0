"""Golden values of the published text-only code (MHA2MLA), run on small random models.

    git clone https://github.com/JT-Ushio/MHA2MLA && git -C MHA2MLA checkout 7a56785
    python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==4.51.0 accelerate==1.3.0
    venv/bin/python make_golden.py MHA2MLA

Its own functions and main programs run; only what they import for data on disk and for logging
(nanotron, datasets) is replaced, and "cuda" is the CPU. Everything is fp32, attention "eager".
Writes for llama and qwen2, beside this script:

NAME/                           the model before conversion: config.json, model.safetensors
golden-NAME.safetensors
    ids.N [T] int32             samples; every token but the first is trained
    CASE.logits [T, V]          of sample 0
    CASE.loss [1]               mean cross entropy over both samples
    CASE.grad.TENSOR            of that loss: vectors whole, a matrix g [o, i] as o sums over its rows
                                and i over its columns, weighted: g cos(1..i), then cos(1..o) g
    CASE.generated.N            greedy, 8 tokens behind sample N, with a cache
    METHOD.TENSOR               factors that its SVD made (down_*, up_*), for the MLA cases
    calibration [N, T] int32    what 2_norm.py was run on, two samples at a time
    rank [L, G, dh] uint8       the rank file that it wrote
    scores [L, G, dh/2]         what it sorted for that
    lr [S]                      of each step, for the schedule in lr_settings (warm-up, decay steps)
    checkpoint-VERSION.logits   of sample 0, from that checkpoint as eval.py opens it
  CASE is a strategy (high, low, uniform, 2-norm: 4 of 8 dims rotated, nothing compressed) or an SVD
  method (joint, split, only_key, only_value: rank file, low_rank 3). The metadata has the versions,
  and in "frozen" which tensors is_freeze_non_attn freezes.
checkpoint-NAME-VERSION/        what run_train.py saves with max_steps 0 and bf16, and where 2_norm.py
                                ranked its rank.pth; high for llama, 2-norm for qwen2; joint

    venv/bin/python make_golden.py MHA2MLA check DIR ANSWERS COUNT
opens a text model that this project exported as eval.py does, strictly, and has it answer the first COUNT
prompts of ANSWERS (the run's answers.jsonl beside the model).
"""
import dataclasses
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import types

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, Qwen2Config

HERE = os.path.dirname(os.path.abspath(__file__))
VOCAB, ROPE_DIM, LOW_RANK = 48, 4, 3
transformers.logging.set_verbosity_error()


class Samples(list):
    """Stands for nanotron's Nanoset: the list is whatever `samples` holds."""
    samples = []

    def __init__(self, **ignored):
        super().__init__(Samples.samples)


def stub_imports():
    for name in ("nanotron", "nanotron.data", "nanotron.data.nanoset", "nanotron.logging", "datasets"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["nanotron.data.nanoset"].Nanoset = Samples
    sys.modules["nanotron.logging"].log_rank = lambda *a, **k: None
    sys.modules["datasets"].Dataset = type("Dataset", (), {})
    for owner in (torch.nn.Module, torch.Tensor):
        def to(self, *args, _to=owner.to, **kw):
            return self if args == ("cuda",) else _to(self, *args, **kw)
        owner.to = to


def import_peer(path):
    sys.path.insert(0, os.path.join(path, "src", "mha2mla"))
    stub_imports()
    names = ("patch_func", "patching_model_load", "patching_llama", "patching_qwen2", "arguments",
             "helpers", "run_train", "2_norm")
    return types.SimpleNamespace(**{n.replace("2_norm", "two_norm"): importlib.import_module(n) for n in names})


SMALL = {"hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": VOCAB,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
         "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "llama": LlamaConfig(**SMALL, rms_norm_eps=1e-5, tie_word_embeddings=True, rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}),
    "qwen2": Qwen2Config(**SMALL, rms_norm_eps=1e-6, tie_word_embeddings=False, use_sliding_window=False),
}


# of the weights: the answers vary, and none of their tokens is a close choice (see generate)
SEEDS = {"llama": 16, "qwen2": 8}


def make_model(name, seed):
    """Weights large enough for attention that is far from even; norms and biases that show."""
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name])
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "embed" in key:  # small, or tied ones would answer each token with itself
                p.normal_(0, 0.05, generator=g)
            elif p.ndim > 1:
                scale = 1.5 if "q_proj" in key or "k_proj" in key else 1
                p.normal_(0, scale / math.sqrt(p.shape[1]), generator=g)
            elif "norm" in key:
                p.copy_(1 + 0.2 * torch.randn(p.shape, generator=g))
            else:
                p.normal_(0, 0.2, generator=g)
    save_plain(model, os.path.join(HERE, name))


def save_plain(model, directory):
    """config.json and the weights, nothing else."""
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory)
    keep_plain(directory)


def keep_plain(directory):
    for f in os.listdir(directory):
        if f not in ("config.json", "model.safetensors"):
            os.remove(os.path.join(directory, f))
    os.chmod(os.path.join(directory, "model.safetensors"), 0o644)


def with_tokenizer(name, out):
    """The model's directory with a tokenizer, which the peer's programs ask for."""
    from tokenizers import Tokenizer, models
    shutil.copytree(os.path.join(HERE, name), out, dirs_exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({str(i): i for i in range(VOCAB)}, unk_token="0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="2",
                                         unk_token="0").save_pretrained(out)


def run_main(module, flag, settings):
    """A program of the peer's with a file of settings (JSON is YAML)."""
    with tempfile.NamedTemporaryFile("w", suffix=".yml", delete=False) as f:
        json.dump(settings, f)
    argv, sys.argv = sys.argv, [module.__name__, flag, f.name]
    module.main()
    sys.argv = argv
    os.remove(f.name)


def two_norm(peer, model_dir, ids, out):
    """Runs 2_norm.py; returns what it sorted. The rank file is `out`."""
    seen = []
    sort = torch.sort

    def spy(x, *args, **kw):
        seen.append(x.clone())
        return sort(x, *args, **kw)

    Samples.samples = [{"input_ids": torch.tensor(s)} for s in ids]
    torch.sort = spy
    run_main(peer.two_norm, "--config_file",
             {"is_nanoset": True, "dataset_folders": ["."], "sequence_length": len(ids[0]),
              "model_name_or_path": model_dir, "qk_output_dir": out, "sample_size": len(ids),
              "batch_size": 2})
    torch.sort = sort
    return seen[-1]


def arguments(peer, version, method, rank_file, **more):
    return peer.arguments.MHA2MLAModelArguments(
        partial_rope_version=version, rope_dim_for_mla=ROPE_DIM, uniform_start_point=1,
        qk_tensor_path=rank_file, svd_init_method=method, low_rank=LOW_RANK, **more)


def patched(peer, model, args):
    model, q_idx, k_idx = peer.patching_model_load.patch_model(model, model.config, args)
    if model.config.model_type == "llama":
        peer.patching_llama.mha2mla_llama(q_idx, k_idx)
    else:
        peer.patching_qwen2.mha2mla_qwen2(q_idx, k_idx)
    return model.float().eval()


def opened(peer, directory):
    """As its eval.py opens a checkpoint: strictly, by the settings in config.json."""
    config = transformers.AutoConfig.from_pretrained(directory, attn_implementation="eager")
    assert not config.mha2mla["is_baseline"]
    args = types.SimpleNamespace(**config.mha2mla)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = patched(peer, model, args)
    model.load_state_dict(load_file(os.path.join(directory, "model.safetensors")))
    return model.float().eval()


def sketch(g):
    if g.ndim == 1:
        return g.clone()
    o, i = g.shape
    g = g.double()
    w = torch.cos(torch.arange(1, max(o, i) + 1, dtype=torch.float64))
    return torch.cat([g @ w[:i], w[:o] @ g]).float()


def generate(model, ids, count):
    out = model.generate(input_ids=ids[None], attention_mask=torch.ones_like(ids[None]),
                         max_new_tokens=count, do_sample=False, use_cache=True, eos_token_id=None,
                         pad_token_id=0, output_logits=True, return_dict_in_generate=True)
    margins = [float(t[0] - t[1]) for t in (torch.topk(logits[0], 2).values for logits in out.logits)]
    new = out.sequences[0][len(ids):]
    assert min(margins) > 1e-3 and len(set(new.tolist())) > 3, (min(margins), new.tolist())
    return new


def values(model, samples, case, out):
    total, count = 0, 0
    for n, ids in enumerate(samples):
        logits = model(input_ids=ids[None]).logits[0]
        if n == 0:
            out[f"{case}.logits"] = logits.detach()
        total = total + torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="sum")
        count += len(ids) - 1
        out[f"{case}.generated.{n}"] = generate(model, ids, 8).int()
    loss = total / count
    out[f"{case}.loss"] = loss.detach()[None]
    model.zero_grad()
    loss.backward()
    for name, p in model.named_parameters():
        out[f"{case}.grad.{name}"] = sketch(p.grad)


def case(peer, name, model_dir, version, method, rank_file, samples, out):
    model = transformers.AutoModelForCausalLM.from_pretrained(model_dir, attn_implementation="eager",
                                                              torch_dtype=torch.float32)
    patched(peer, model, arguments(peer, version, method, rank_file))
    values(model, samples, name, out)
    for key, p in model.named_parameters():
        if method != "none" and "kv_proj" in key and "bias" not in key:
            out[f"{method}.{key}"] = p.detach().clone()
    return model


def checkpoint(peer, name, model_dir, version, rank_file, sample, out):
    """run_train.py, which saves what it starts from where there are no steps."""
    directory = os.path.join(HERE, f"checkpoint-{name}-{version}")
    shutil.rmtree(directory, ignore_errors=True)
    Samples.samples = []
    settings = dataclasses.asdict(arguments(peer, version, "joint", rank_file))
    settings.update(model_name_or_path=model_dir, output_dir=directory, max_steps=0, bf16=True, use_cpu=True,
                    report_to="none", is_nanoset=True, dataset_folders=["."], sequence_length=16)
    run_main(peer.run_train, "--cfg_file", settings)
    keep_plain(directory)
    model = opened(peer, directory)
    with torch.no_grad():
        out[f"checkpoint-{version}.logits"] = model(input_ids=sample[None]).logits[0]
    with open(os.path.join(directory, "config.json")) as f: # no paths of this machine
        c = json.load(f)
    c["_name_or_path"] = c["mha2mla"]["model_name_or_path"] = name
    if version == "2-norm":
        shutil.copy(rank_file, directory)
    c["mha2mla"]["qk_tensor_path"] = "rank.pth" if version == "2-norm" else None
    with open(os.path.join(directory, "config.json"), "w") as f:
        json.dump(c, f, indent=2)


def learning_rates(peer, out):
    total, warmup, tail = 20, 3, 5
    settings = types.SimpleNamespace(lr_warmup_steps=warmup, lr_warmup_style="linear", lr_decay_style="1-sqrt",
                                     lr_decay_steps=tail, lr_decay_starting_step=total - tail, min_decay_lr=0)
    opt = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = peer.helpers.lr_scheduler_builder(opt, settings, total)
    rates = []
    for _ in range(total):
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        schedule.step()
    out["lr"] = torch.tensor(rates)
    out["lr_settings"] = torch.tensor([warmup, tail], dtype=torch.int32)


def golden(peer, name, commit):
    rng = numpy.random.default_rng(5)
    samples = [torch.tensor(rng.integers(3, VOCAB, n)) for n in (12, 9)]
    calibration = rng.integers(3, VOCAB, (4, 12))
    out = {f"ids.{n}": s.int() for n, s in enumerate(samples)}
    make_model(name, SEEDS[name])
    with tempfile.TemporaryDirectory() as model_dir:
        with_tokenizer(name, model_dir)
        rank_file = os.path.join(model_dir, "rank.pth")
        out["scores"] = two_norm(peer, model_dir, calibration.tolist(), rank_file)
        out["rank"] = torch.load(rank_file, weights_only=True)
        out["calibration"] = torch.tensor(calibration).int()
        for version in ("high", "low", "uniform", "2-norm"):
            case(peer, version, model_dir, version, "none", rank_file, samples, out)
        for method in ("joint", "split", "only_key", "only_value"):
            model = case(peer, method, model_dir, "2-norm", method, rank_file, samples, out)
        peer.helpers.freeze_non_attn_weights(model)
        frozen = [k for k, p in model.named_parameters() if not p.requires_grad]
        learning_rates(peer, out)
        checkpoint(peer, name, model_dir, "high" if name == "llama" else "2-norm", rank_file, samples[0], out)
    metadata = {"torch": torch.__version__, "transformers": transformers.__version__, "MHA2MLA": commit,
                "frozen": " ".join(frozen)}
    path = os.path.join(HERE, f"golden-{name}.safetensors")
    save_file({k: v.contiguous() for k, v in out.items()}, path, metadata)
    os.chmod(path, 0o644)
    print(name, len(out), "tensors,", os.path.getsize(path), "bytes; loss",
          {k[:-5]: round(float(v), 4) for k, v in out.items() if k.endswith(".loss")})


def check(peer, directory, answers, count):
    answers = os.path.abspath(answers)
    os.chdir(directory) # its rank file is named from there
    model = opened(peer, ".")
    tokenizer = transformers.AutoTokenizer.from_pretrained(".")
    same = 0
    with open(answers) as f:
        lines = [json.loads(line) for line in f][:count]
    for line in lines:
        prompt = line["prompt"][:line["prompt"].rindex(line["expected"])].rstrip()
        ids = tokenizer(prompt, return_tensors="pt").input_ids[0]
        new = model.generate(input_ids=ids[None], attention_mask=torch.ones_like(ids[None]), max_new_tokens=8,
                             do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=0)[0][len(ids):]
        same += tokenizer.decode(new, skip_special_tokens=True).strip() == line["answer"]
    print(f"{directory}: opened; {same} of {len(lines)} answers are the same")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(1)
    root = sys.argv[1]
    peer_code = import_peer(root)
    if sys.argv[2:3] == ["check"]:
        check(peer_code, sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
        for model_name in ("llama", "qwen2"):
            golden(peer_code, model_name, head.stdout.strip())
