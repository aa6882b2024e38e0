"""Models in every form in which transformers opens them, for tests/test_weights.c.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==5.24.0 safetensors numpy
    venv/bin/python make_golden.py

Writes a directory for each form beside this script: config.json, the weights, and golden.safetensors
with ids [T] int32 and logits [T, V] of the model that transformers makes of that very directory (fp32,
CPU, attention "eager"). The metadata of golden.safetensors says the versions, and whether the head is
the embeddings ("tied"). FORMS below says what each is.

files/ holds single files of torch.save: all.bin is what can be read (see FILES), the others are refused.
"""
import json
import os
import shutil
import zipfile

import torch
import transformers
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, CLIPVisionConfig, LlamaConfig, LlamaForCausalLM, LlavaConfig,
                          LlavaForConditionalGeneration)

os.chdir(os.path.dirname(os.path.abspath(__file__)))
transformers.logging.set_verbosity_error()
VOCAB = 12
IDS = torch.tensor([[1, 5, 3, 7, 2, 9, 4, 8]])
EMBED, HEAD = "embed_tokens.weight", "lm_head.weight"


def text_config(tied, bias=False):
    return LlamaConfig(hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
                       num_key_value_heads=1, vocab_size=VOCAB, max_position_embeddings=32,
                       tie_word_embeddings=tied, initializer_range=0.4, attention_bias=bias)


def llava_config(tied):
    tower = CLIPVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
                             image_size=4, patch_size=2, projection_dim=8)
    return LlavaConfig(text_config=text_config(tied), vision_config=tower, image_token_index=VOCAB - 1,
                       image_seq_length=4, tie_word_embeddings=tied)


def old_names(weights):
    """As transformers before 4.52 names LLaVA's parts."""
    pairs = (("model.language_model.", "language_model.model."), ("lm_head.", "language_model.lm_head."),
             ("model.vision_tower.", "vision_tower.vision_model."),
             ("model.multi_modal_projector.", "multi_modal_projector."))
    out = {}
    for name, t in weights.items():
        before, after = next(p for p in pairs if name.startswith(p[0]))
        out[after + name[len(before):]] = t
    return out


def name_of(weights, end):
    return next(name for name in weights if name.endswith(end))


def without(weights, end):
    return {name: t for name, t in weights.items() if not name.endswith(end)}


def with_other_head(weights):
    out = dict(weights)
    out[name_of(weights, HEAD)] = weights[name_of(weights, HEAD)].flip(0).contiguous()
    return out


def with_extras(weights):
    """What older checkpoints carry and transformers drops; biases of zeros."""
    at = "model.layers.0.self_attn."
    return {**weights, at + "rotary_emb.inv_freq": torch.ones(2), "model.position_ids": torch.arange(32),
            at + "q_proj.bias": torch.zeros(8), at + "k_proj.bias": torch.zeros(4)}


def save_st(weights, to):
    save_file({name: t.clone() for name, t in weights.items()}, f"{to}/model.safetensors", {"format": "pt"})


def save_bin(weights, to):
    torch.save(weights, f"{to}/pytorch_model.bin")


def save_shards(weights, to):
    names = sorted(weights)
    map_, half = {}, len(names) // 2
    for i, part in enumerate((names[:half], names[half:])):
        file = f"pytorch_model-{i + 1:05}-of-00002.bin"
        torch.save({name: weights[name] for name in part}, f"{to}/{file}")
        map_.update({name: file for name in part})
    with open(f"{to}/pytorch_model.bin.index.json", "w") as f:
        json.dump({"metadata": {}, "weight_map": map_}, f, indent=1)


def same(weights):
    return weights


FORMS = {  # name: (of pictures, tied, what is done to the names and tensors, how they are saved)
    "text-head-only": (False, True, lambda w: without(w, EMBED), save_st),
    "text-heads-differ": (False, True, with_other_head, save_st),
    "text-heads-equal": (False, True, same, save_st),
    "text-heads-of-two-dtypes": (False, True, lambda w: {n: t.bfloat16() if n.endswith(EMBED) else
                                                         t.bfloat16().float() if n.endswith(HEAD) else t
                                                         for n, t in w.items()}, save_st),
    "text-no-prefix": (False, True, lambda w: {n.removeprefix("model."): t for n, t in w.items()
                                                    if not n.endswith(HEAD)}, save_st),
    "text-two-prefixes": (False, False, lambda w: {"model." + n: t for n, t in w.items()}, save_st),
    "text-extras": (False, False, with_extras, save_st),
    "text-bin": (False, False, same, save_bin),
    "text-bin-tied": (False, True, same, save_bin),
    "text-bin-parameters": (False, False, lambda w: {n: torch.nn.Parameter(t) for n, t in w.items()}, save_bin),
    "text-bin-bf16": (False, False, lambda w: {n: t.bfloat16() for n, t in w.items()}, save_bin),
    "text-bin-shards": (False, False, same, save_shards),
    "llava-bin": (True, True, old_names, save_bin),
    "llava-head-only": (True, True, lambda w: without(w, EMBED), save_st),
    "llava-old-head-only": (True, True, lambda w: without(old_names(w), EMBED), save_st),
    "llava-heads-differ": (True, True, with_other_head, save_st),
    "llava-old-heads-differ": (True, True, lambda w: with_other_head(old_names(w)), save_st),
    "llava-old-new-head": (True, False, lambda w: {HEAD if n.endswith(HEAD) else n: t
                                                   for n, t in old_names(w).items()}, save_st),
    "llava-no-prefix": (True, True, lambda w: {n.removeprefix("model."): t for n, t in w.items()
                                                    if not n.endswith(HEAD)}, save_st),
}


def make_form(name, pictures, tied, change, save):
    shutil.rmtree(name, ignore_errors=True)
    os.makedirs(name)
    torch.manual_seed(7)
    model = (LlavaForConditionalGeneration(llava_config(tied)) if pictures else
             LlamaForCausalLM(text_config(tied))).eval()
    save(change(model.state_dict()), name)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = "float32"
    model.config.save_pretrained(name)
    again = type(model).from_pretrained(name, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        logits = again(input_ids=IDS).logits[0]
    is_tied = again.get_input_embeddings().weight is again.get_output_embeddings().weight
    save_file({"ids": IDS[0].int(), "logits": logits.contiguous()}, f"{name}/golden.safetensors",
              {"torch": torch.__version__, "transformers": transformers.__version__, "tied": str(is_tied)})
    print(name, "tied" if is_tied else "not tied")


class Whole(torch.nn.Linear):
    pass


def make_files():
    """FILES: each dtype's row counts up from -2; `view` is the second row of `whole`."""
    shutil.rmtree("files", ignore_errors=True)
    os.makedirs("files")
    ramp = torch.arange(6).view(2, 3) - 2
    marked = ramp.float()
    marked.note = "a tensor with an attribute"
    with_attribute = torch.nn.Parameter(ramp.float())
    with_attribute.note = 1
    good = {name: ramp.to(dtype) for name, dtype in (
        ("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16), ("f64", torch.float64),
        ("i64", torch.int64), ("i32", torch.int32), ("i16", torch.int16), ("i8", torch.int8))}
    whole = ramp.float()
    good |= {"u8": torch.arange(6, dtype=torch.uint8).view(2, 3), "bool": ramp > 0, "scalar": torch.tensor(0.5),
             "empty": torch.empty(0, 3), "whole": whole, "view": whole[1:], "one": whole[:, :1].t()[:, :1],
             "parameter": torch.nn.Parameter(ramp.float()), "marked": marked, "marked parameter": with_attribute,
             "f8": torch.ones(2, dtype=torch.float8_e4m3fn), "u16": torch.ones(2, dtype=torch.uint16),
             "name with \u00e9": torch.ones(1)}
    torch.save(good, "files/all.bin")
    torch.save({"a": ramp.float().t()}, "files/turned.bin")
    torch.save({"a": ramp.float()[:, ::2]}, "files/gaps.bin")
    torch.save({"epoch": 3, "state_dict": {"a": ramp}}, "files/nested.bin")
    torch.save({"a": ramp, "epoch": 3}, "files/number.bin")
    torch.save(ramp.float(), "files/tensor.bin")
    torch.save([ramp.float()], "files/list.bin")
    torch.save({"a": Whole(1, 1)}, "files/object.bin")
    torch.save({"a": ramp.float().to_sparse()}, "files/sparse.bin")
    torch.save({"a": torch.quantize_per_tensor(ramp.float(), 0.1, 0, torch.qint8)}, "files/qint8.bin")
    torch.save({"a": ramp.float()}, "files/legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"a": ramp.float()}, "files/protocol4.bin", pickle_protocol=4)
    with zipfile.ZipFile("files/tensor.bin") as old, zipfile.ZipFile("files/deflated.bin", "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member), zipfile.ZIP_DEFLATED)
    torch.jit.save(torch.jit.script(torch.nn.Identity()), "files/script.bin")


for form, args in FORMS.items():
    make_form(form, *args)
make_files()
