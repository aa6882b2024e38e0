"""Golden values of small random models, as transformers computes them.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==5.24.0 safetensors numpy
    venv/bin/python make_golden.py          # or with the names of those that are to be made
    python3 -m venv old && old/bin/pip install torch==2.13.0 transformers==4.51.3
    old/bin/python make_golden.py old       # after that: llava-4.51, as transformers 4.51 saves it

Writes a directory for each model beside this script: config.json and the weights as transformers
saves them (llava-qwen2 in shards, llama-bf16 and llava-fp16 in those dtypes), and golden.safetensors:
    ids.N, labels.N [T] int32   sample N; labels.N[i] is what ids.N[i] is trained as, -100: nothing
    pixels.N [3, S, S]          its picture, as the processor would hand it over
    features.N [P, w]           of the picture: the vision tower's, before the projector
    logits.N [T, V]             of every position
    hidden.L [T, d]             of sample 0: the embeddings (L 0), each layer, the last after the norm
    prompt.N                    the first three quarters of sample N
    generated.N, uncached.N     greedy from there, 12 tokens, with a cache and without
and for the models that are trained
    loss [1]                    mean cross entropy of all labelled tokens of the samples
    grad.NAME                   of that loss, by the name in the weights' file
    losses [5], lr [5]          five AdamW steps on the same samples with the published schedule
    after.NAME                  the weights after them
Everything is fp32 on the CPU, attention "eager"; weights of a 16-bit file are made fp32 first. Each
sample is computed alone, and the RoPE of type dynamic is new for each. The metadata says the versions.

variants/NAME.safetensors holds the same of a model whose config.json is in the metadata ("config")
and whose weights are those of the model that it names ("of"). Some have the loss and its gradients
as well, and some a generation_config.json ("generation"), with
    stopped.N                   greedy from prompt.N until one of its end tokens, which is the last
llava-4.52 holds the weights of llava under the names that a state dict has since 4.52.
"""
import copy
import json
import math
import os
import shutil
import sys
import tempfile

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, CLIPVisionConfig, LlamaConfig, LlavaConfig,
                          LlavaForConditionalGeneration, MistralConfig, Qwen2Config)

HERE = os.path.dirname(os.path.abspath(__file__))
VOCAB, IMAGE, SIDE = 48, 47, 12
transformers.logging.set_verbosity_error()

# warm-up 2 of 5 steps, constant, 1 - sqrt over the last 2: every part of the schedule is met
STEPS, WARM, TAIL, PEAK = 5, 2, 2, 2e-3

# of the weights: the answers are varied and no choice in them is a close one (see check_margins)
SEEDS = {"llava": 18, "llava-qwen2": 1, "llama": 12, "llama-biases": 2, "qwen2": 1, "smollm2": 1,
         "llava-features": 3, "mistral": 1}


def published_lr(step):
    if step <= WARM:
        return PEAK * step / WARM
    if step < STEPS - TAIL:
        return PEAK
    return PEAK * (1 - math.sqrt((step - (STEPS - TAIL)) / TAIL))


# ---- the models ----

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": VOCAB,
         "num_attention_heads": 4, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2}
TOWER = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 2,
         "image_size": SIDE, "patch_size": 4, "projection_dim": 16}


# All three parts of its curve are met: a wave length below 64 / 4, one between, two above 64 / 1.
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}


def models():
    """Each with whether it is trained."""
    llava = LlavaConfig(
        text_config=LlamaConfig(**SMALL, num_key_value_heads=4, rms_norm_eps=1e-5, tie_word_embeddings=False),
        vision_config=CLIPVisionConfig(**TOWER), image_token_index=IMAGE, image_seq_length=9,
        vision_feature_layer=-2, vision_feature_select_strategy="default", tie_word_embeddings=False)
    llava_qwen2 = LlavaConfig(
        text_config=Qwen2Config(**SMALL, num_key_value_heads=2, tie_word_embeddings=True),
        vision_config=CLIPVisionConfig(**TOWER, hidden_act="gelu"), image_token_index=IMAGE,
        image_seq_length=10, vision_feature_layer=1, vision_feature_select_strategy="full",
        multimodal_projector_bias=False, tie_word_embeddings=True)
    llama = LlamaConfig(**{**SMALL, "hidden_size": 32}, num_key_value_heads=2, rms_norm_eps=1e-5,
                        tie_word_embeddings=True, rope_parameters={"rope_theta": 10000.0, **LLAMA3})
    llama_biases = LlamaConfig(**SMALL, num_key_value_heads=4, head_dim=6, attention_bias=True, mlp_bias=True,
                               tie_word_embeddings=False)
    qwen2 = Qwen2Config(**SMALL, num_key_value_heads=2, rms_norm_eps=1e-6, tie_word_embeddings=False,
                        use_sliding_window=False, sliding_window=8)
    smollm2 = LlamaConfig(**{**SMALL, "hidden_size": 36, "num_attention_heads": 9}, num_key_value_heads=3,
                          rms_norm_eps=1e-5, tie_word_embeddings=True, initializer_range=1 / 24,
                          rope_parameters={"rope_type": "default", "rope_theta": 100000.0})
    # Two layers of the tower side by side, a padding row, and dropout that no answer sees.
    features = LlavaConfig(
        text_config=LlamaConfig(**SMALL, num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=False,
                                attention_dropout=0.1, pad_token_id=some_id(LlavaConfig(image_seq_length=9))),
        vision_config=CLIPVisionConfig(**TOWER, hidden_act="gelu_fast", attention_dropout=0.2),
        image_token_index=IMAGE, image_seq_length=9, vision_feature_layer=[1, -1],
        vision_feature_select_strategy="default", projector_hidden_act="silu", tie_word_embeddings=False)
    # A null is the only window that means none: the class' default is 4096. Heads of their own size.
    mistral = MistralConfig(**SMALL, num_key_value_heads=2, head_dim=6, rms_norm_eps=1e-5, sliding_window=None,
                            tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    return {"llava": llava, "llava-qwen2": llava_qwen2, "llama": llama, "llama-biases": llama_biases,
            "qwen2": qwen2, "smollm2": smollm2, "llava-features": features, "mistral": mistral}


def some_id(config):
    """A token of the first sample that is not only padding's: in its first half."""
    return int(samples(config)[0][0][1])


def variants(configs):
    """NAME: (of, config.json as a file may say it). RoPE stands where older and newer files have it."""
    out = {}

    def add(of, name, rope=None, **changes):
        config = copy.deepcopy(configs[of])
        text = config.get("text_config", config)
        if rope is not None:
            text.pop("rope_parameters", None)
            text.update(rope)
        if "hidden_act" in changes:
            config["vision_config"]["hidden_act"] = changes.pop("hidden_act")
        if "dropout" in changes:
            config["vision_config"]["attention_dropout"] = text["attention_dropout"] = changes.pop("dropout")
        config.update(changes)
        out[f"{of}-{name}"] = (of, config)

    for layer, strategy in ((-1, "default"), (-1, "full"), (0, "default"), (1, "default"), (-4, "full")):
        add("llava", f"layer{layer}-{strategy}", vision_feature_layer=layer,
            vision_feature_select_strategy=strategy, image_seq_length=9 + (strategy == "full"))
    add("llava", "tanh", hidden_act="gelu_pytorch_tanh")
    add("llava", "linear", rope={"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}})
    add("llama", "theta", rope={"rope_theta": 500000.0})
    add("llama", "linear", rope={"rope_scaling": {"type": "linear", "factor": 4.0}})
    add("llama", "linear-5", rope={"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 1000.0}})
    add("llama", "dynamic", rope={"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        max_position_embeddings=16)
    add("llama", "dynamic-5", rope={"rope_parameters": {"rope_type": "dynamic", "factor": 4.0,
                                                        "rope_theta": 10000.0}}, max_position_embeddings=12)
    add("llama", "llama3", rope={"rope_theta": 1000.0, "rope_scaling": LLAMA3})
    add("qwen2", "dynamic", rope={"rope_theta": 10000.0, "rope_scaling": {"type": "dynamic", "factor": 3.0}},
        max_position_embeddings=10)

    # the positions that the model was trained for, beside: missing inside, and another inside
    without = {k: v for k, v in LLAMA3.items() if not k.startswith("original")}
    top = {"rope_theta": 1000.0, "original_max_position_embeddings": 64}
    add("llama", "original-missing", rope={**top, "rope_scaling": without})
    add("llama", "original-other", rope={**top, "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 16}})
    add("llama", "rope-unused", rope={"rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "default", "factor": 4.0, "beta_fast": 32, "mrope_section": [1, 1, 2], "finetuned": True}})

    # Of the 4 pairs one keeps its frequency, one has a fourth of it, two lie on the ramp between. The base
    # of 100 is for short samples: with it positions up to 64 turn even the slowest pair far enough.
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    add("llama", "yarn", rope={"rope_theta": 100.0, "rope_scaling": {**yarn, "beta_fast": 8}})
    add("llama", "yarn-card", rope={"rope_theta": 5000.0, "rope_scaling": yarn})  # as Qwen2.5's model card
    add("llama", "yarn-all", rope={"rope_parameters": {
        **yarn, "rope_type": "yarn", "rope_theta": 100.0, "attention_factor": 1.25, "beta_fast": 9.5,
        "beta_slow": 1.25, "truncate": False}})
    add("llama", "yarn-mscale", rope={"rope_theta": 100.0, "rope_scaling": {
        **yarn, "beta_fast": 6, "beta_slow": 0.75, "truncate": None, "mscale": 0.8, "mscale_all_dim": 0.3}})
    add("llama", "yarn-ratio", max_position_embeddings=192,
        rope={"rope_theta": 100.0, "original_max_position_embeddings": 32,
              "rope_scaling": {**yarn, "factor": None, "attention_factor": None, "beta_fast": 8}})
    add("llama", "yarn-point", rope={"rope_theta": 100.0, "rope_scaling": {  # both ends of the ramp are 0
        **yarn, "original_max_position_embeddings": 4}})
    add("qwen2", "yarn", rope={"rope_theta": 1000.0, "rope_scaling": {**yarn, "beta_fast": 8}})
    add("llava", "yarn", rope={"rope_theta": 100.0, "rope_scaling": {**yarn, "beta_fast": 8}})

    # windows that no sample leaves: 29 tokens are the most that anything looks back over
    add("qwen2", "window", layer_types=None, use_sliding_window=True, sliding_window=29, max_window_layers=0)
    add("qwen2", "window-layers", layer_types=["full_attention", "sliding_attention"], use_sliding_window=True,
        sliding_window=29)
    add("qwen2", "window-behind", layer_types=None, use_sliding_window=True, sliding_window=3, max_window_layers=2)

    add("llava", "layer-list", vision_feature_layer=[-2], dropout=0.25)
    for projector, tower in (("relu", "silu"), ("quick_gelu", "relu"), ("gelu_new", "gelu_python"),
                             ("gelu_fast", "gelu_accurate"), ("gelu_python_tanh", "gelu_new"),
                             ("swish", "gelu_pytorch_tanh")):
        add("llava", f"{projector}-{tower}", projector_hidden_act=projector, hidden_act=tower)
    add("llama", "pad", pad_token_id=some_id(LlamaConfig()))
    add("qwen2", "generation")
    return out


def make_model(config, seed):
    config._attn_implementation = "eager"
    if config.model_type == "llava":
        model = LlavaForConditionalGeneration(config)
    else:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return draw_weights(model, seed)


def draw_weights(model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.normal_(0, 1.2 / math.sqrt(p[0].numel()) if "embed" not in name else 0.3, generator=g)
            elif ("norm" in name or "ln_q" in name) and name.endswith("weight"):
                p.copy_(1 + 0.2 * torch.randn(p.shape, generator=g))
            else:
                p.normal_(0, 0.2, generator=g)
    return model.float().eval()


def read_model(directory):
    kind = json.load(open(os.path.join(directory, "config.json")))["model_type"]
    kind = LlavaForConditionalGeneration if kind == "llava" else AutoModelForCausalLM
    model, info = kind.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager",
                                       output_loading_info=True)
    assert not any(info.values()), info
    if getattr(model.config, "vision_feature_layer", None) == 0:  # 5.24 takes a 0 for "none" and fails
        model.config.vision_feature_layer = -1 - model.config.vision_config.num_hidden_layers
    return model.eval()


# ---- what they compute ----

def samples(config):
    """Three samples of different lengths; the labels are the last third and a stretch before."""
    rng = numpy.random.default_rng(11)
    out = []
    for n, (before, after) in enumerate([(3, 20), (0, 11), (7, 15)]):
        picture = config.model_type == "llava" and n != 1
        tokens = config.image_seq_length if picture else 0
        ids = list(rng.integers(3, IMAGE, before)) + [IMAGE] * tokens + list(rng.integers(3, IMAGE, after))
        labels = [-100] * len(ids)
        for i in list(range(len(ids) - after // 3, len(ids))) + ([before + tokens + 2] if n == 0 else []):
            labels[i] = ids[i]
        pixels = torch.tensor(rng.normal(size=(3, SIDE, SIDE)), dtype=torch.float32) if picture else None
        out.append((torch.tensor(ids), torch.tensor(labels), pixels))
    return out


def renew_rope(model):
    """RoPE of type dynamic remembers the longest sample that it has seen."""
    for name, module in list(model.named_modules()):
        if name.endswith("rotary_emb"):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, type(module)(module.config))


def run(model, sample, **more):
    ids, _, pixels = sample
    renew_rope(model)
    if pixels is not None:
        more["pixel_values"] = pixels[None]
    return model(input_ids=ids[None], **more)


def generate(model, prompt, pixels, cached):
    renew_rope(model)
    more = {} if pixels is None else {"pixel_values": pixels[None]}
    out = model.generate(input_ids=prompt[None], attention_mask=torch.ones_like(prompt[None]),
                         max_new_tokens=12, do_sample=False, use_cache=cached, eos_token_id=None,
                         pad_token_id=0, **more)
    return out[0][len(prompt):].int()


def features(model, pixels):
    """What the projector gets."""
    seen = []
    hook = model.model.multi_modal_projector.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.model.get_image_features(pixel_values=pixels[None])
    hook.remove()
    return seen[0][0]


def answers(model, batch):
    out = {}
    with torch.no_grad():
        for n, s in enumerate(batch):
            r = run(model, s, output_hidden_states=True)
            out[f"ids.{n}"] = s[0].int()
            out[f"labels.{n}"] = s[1].int()
            if s[2] is not None:
                out[f"pixels.{n}"] = s[2]
                out[f"features.{n}"] = features(model, s[2])
            out[f"logits.{n}"] = r.logits[0]
            if n == 0:
                for i, h in enumerate(r.hidden_states):
                    out[f"hidden.{i}"] = h[0]
            prompt = s[0][: len(s[0]) - len(s[0]) // 4]
            out[f"prompt.{n}"] = prompt.int()
            out[f"generated.{n}"] = generate(model, prompt, s[2], True)
            out[f"uncached.{n}"] = generate(model, prompt, s[2], False)
            # keys that a cache holds keep the angles of their time, by which dynamic RoPE differs
            dynamic = "dynamic" in str(model.config.get_text_config().rope_parameters)
            assert dynamic or torch.equal(out[f"generated.{n}"], out[f"uncached.{n}"])
            check_margins(model, s, prompt, out[f"generated.{n}"])
    return out


def check_margins(model, s, prompt, generated):
    """No greedy choice may hang on rounding: the best token leads by far more than that."""
    assert len(set(generated.tolist())) > 1
    for i in range(len(generated)):
        logits = run(model, (torch.cat([prompt, generated[:i]]), None, s[2])).logits[0, -1]
        best = torch.topk(logits, 2).values
        assert best[0] - best[1] > 1e-3, (i, best)


def loss_of(model, batch, run=run):
    total, count = 0, 0
    for s in batch:
        logits = run(model, s).logits[0]
        labels = s[1][1:]
        total = total + torch.nn.functional.cross_entropy(logits[:-1], labels, ignore_index=-100,
                                                          reduction="sum")
        count += int((labels != -100).sum())
    return total / count


def file_names(model, directory):
    """The weights file's name of each parameter, found by value: transformers renames on saving."""
    saved = {}
    for f in sorted(os.listdir(directory)):
        if f.endswith(".safetensors") and f != "golden.safetensors":
            saved.update(load_file(os.path.join(directory, f)))
    names = {}
    for name, p in model.named_parameters():
        same = [k for k, v in saved.items() if v.shape == p.shape and torch.equal(v.float(), p.detach())]
        assert len(same) == 1, (name, same)
        names[name] = same[0]
    assert len(names) == len(saved), set(saved) - set(names.values())
    return names


def training(model, batch, names, run=run):
    out = {}
    loss = loss_of(model, batch, run)
    out["loss"] = loss.detach()[None]
    model.zero_grad()
    loss.backward()
    for k, p in model.named_parameters():
        if p.grad is not None:
            out[f"grad.{names[k]}"] = p.grad.clone()
    opt = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    losses = []
    for step in range(STEPS):
        for group in opt.param_groups:
            group["lr"] = published_lr(step)
        opt.zero_grad()
        loss = loss_of(model, batch, run)
        loss.backward()
        losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
    out["losses"] = torch.stack(losses)
    out["lr"] = torch.tensor([published_lr(s) for s in range(STEPS)])
    for k, p in model.named_parameters():
        if p.grad is not None:
            out[f"after.{names[k]}"] = p.detach().clone()
    return out


def pad_row_is_frozen(model, out):
    """Its gradient is that of the head alone, which is 0 where that has weights of its own."""
    embed = model.get_input_embeddings()
    assert embed.padding_idx is not None
    for key, value in out.items():
        if key.startswith("grad.") and key.endswith("embed_tokens.weight"):
            return bool((value[embed.padding_idx] == 0).all())


def write(path, out, **more):
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    save_file({k: v.contiguous() for k, v in out.items()}, path, {**versions, **more})
    print(os.path.relpath(path, HERE), len(out), "tensors; generated", out["generated.0"].tolist())


# ---- the files ----

def new_directory(name):
    out = os.path.join(HERE, name)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    return out


def save(model, directory, **more):
    model.save_pretrained(directory, **more)
    for f in os.listdir(directory):
        if f != "config.json" and not f.startswith("model"):
            os.remove(os.path.join(directory, f))


def trained_model(name, config):
    directory = new_directory(name)
    model = make_model(config, SEEDS[name])
    save(model, directory, **({"max_shard_size": "16KB"} if name == "llava-qwen2" else {}))
    names = file_names(model, directory)
    batch = samples(config)
    out = answers(model, batch)
    out.update(training(model, batch, names))
    if config.get_text_config().pad_token_id is not None:
        assert any(config.get_text_config().pad_token_id in s[0] for s in batch) and pad_row_is_frozen(model, out)
    print(name, "loss", float(out["loss"]), "->", float(out["losses"][-1]))
    write(os.path.join(directory, "golden.safetensors"), out)


def half_model(name, of, dtype):
    directory = new_directory(name)
    save(read_model(os.path.join(HERE, of)).to(dtype), directory)
    model = read_model(directory)
    write(os.path.join(directory, "golden.safetensors"), answers(model, samples(model.config)))


def variant(name, of, config):
    with tempfile.TemporaryDirectory() as d:
        for f in os.listdir(os.path.join(HERE, of)):
            if f.startswith("model"):
                shutil.copy(os.path.join(HERE, of, f), d)
        text = json.dumps(config)
        with open(os.path.join(d, "config.json"), "w") as f:
            f.write(text)
        model = read_model(d)
        batch = samples(model.config)
        out, more = answers(model, batch), {}
        if name == "llama-pad":
            names = file_names(model, d)
            out.update({k: v for k, v in training(model, batch, names).items() if k.startswith(("loss", "grad."))})
            del out["losses"]
            assert not pad_row_is_frozen(model, out)  # tied
        if name.endswith("generation"):
            more["generation"] = stopped(d, batch, out)
    write(os.path.join(HERE, "variants", f"{name}.safetensors"), out, of=of, config=text, **more)


def stopped(directory, batch, out):
    """Adds stopped.N with a generation_config.json whose end tokens two of the answers meet."""
    ends = [int(out["generated.0"][4]), int(out["generated.1"][7])]
    text = json.dumps({"eos_token_id": ends, "pad_token_id": 0, "max_length": 7})
    with open(os.path.join(directory, "generation_config.json"), "w") as f:
        f.write(text)
    model = read_model(directory)
    assert model.generation_config.eos_token_id == ends
    for n, s in enumerate(batch):
        prompt = out[f"prompt.{n}"].long()[None]
        answer = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12,
                                do_sample=False)
        out[f"stopped.{n}"] = answer[0][prompt.shape[1]:].int()
    assert 1 < min(len(out[f"stopped.{n}"]) for n in range(len(batch))) < 12
    return text


OURS = ("language_model.model.", "language_model.lm_head.", "vision_tower.", "multi_modal_projector.")


def renamed(names):
    out = {}
    for key, value in load_file(os.path.join(HERE, "llava", "model.safetensors")).items():
        part = [i for i in range(4) if key.startswith(OURS[i])]
        assert len(part) == 1, key
        out[names[part[0]] + key[len(OURS[part[0]]):]] = value
    return out


def state_dict_names():
    directory = new_directory("llava-4.52")
    shutil.copy(os.path.join(HERE, "llava", "config.json"), directory)
    save_file(renamed(("model.language_model.", "lm_head.", "model.vision_tower.vision_model.",
                       "model.multi_modal_projector.")), os.path.join(directory, "model.safetensors"),
              {"format": "pt"})


def old():
    """llava as an older transformers saves it: its config.json, its names, in shards."""
    config = json.load(open(os.path.join(HERE, "llava", "config.json")))
    text = config["text_config"]
    text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
    config["image_token_index"] = config.pop("image_token_id", config.get("image_token_index"))
    model = LlavaForConditionalGeneration(LlavaConfig(**config))
    model.load_state_dict(renamed(("language_model.model.", "language_model.lm_head.",
                                   "vision_tower.vision_model.", "multi_modal_projector.")))
    save(model, new_directory(f"llava-{transformers.__version__.rpartition('.')[0]}"), max_shard_size="24KB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(1)
    if sys.argv[1:] == ["old"]:
        old()
        sys.exit()
    wanted = sys.argv[1:]
    for name, config in models().items():
        if not wanted or name in wanted:
            trained_model(name, config)
    if not wanted:
        half_model("llama-bf16", "llama", torch.bfloat16)
        half_model("llava-fp16", "llava", torch.float16)
        new_directory("variants")
        state_dict_names()
    configs = {name: json.load(open(os.path.join(HERE, name, "config.json"))) for name in models()}
    for name, (of, config) in variants(configs).items():
        if not wanted or name in wanted:
            variant(name, of, config)
