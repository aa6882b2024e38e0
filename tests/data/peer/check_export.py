"""Whole models of mha2mla-train in the published code of MHA2MLA-VLM. By hand, beside the tests:

    build/mha2mla-train --config configs/quickstart-published.json --set save.full=true ...
    venv/bin/python check_export.py PEER RUN/rope8/stage1 RUN/rope8-rank8/stage2 ...

(venv and PEER as make_golden.py says.) Each directory is opened by the published code's own loading
for evaluation, which refuses missing and unexpected keys; one of stage 1 by its loading for stage-2
training too. Then it answers the questions of answers.jsonl beside the model, with transformers'
processor and tokenizer: the answers must be the same. With --logits it also leaves those of the first
sample beside the model, in logits.safetensors: ids [T], pixels [3, S, S], logits [T, V].
"""
import argparse
import json
import os

import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, CLIPImageProcessor, LlavaForConditionalGeneration

from peer import open_peer, quiet


def open_model(peer, config):
    stage2 = hasattr(config, "mha2mla") and config.mha2mla.get("stage1_path")
    if not stage2 and config.mha2mla["svd_init_method"] == "none":
        args = peer.arguments(svd_init_method="joint", low_rank=4, svd_init_weight_path="",
                              stage1_path=".", partial_rope_version="high", rope_dim_for_mla=4)
        peer.load_stage2_training(LlavaForConditionalGeneration(config), args)
    return peer.load_evaluation(".")


def prompts(config):
    """(what the model takes, our answer, tokenizer) of each line of answers.jsonl."""
    tokenizer = Tokenizer.from_file("tokenizer.json")
    processor = CLIPImageProcessor.from_pretrained(".")
    picture = "<image>" * config.image_seq_length
    with open(os.path.join("..", "answers.jsonl")) as f:
        for line in f:
            a = json.loads(line)
            text = a["prompt"][: a["prompt"].rindex(" ASSISTANT:")] + " ASSISTANT:"
            ids = tokenizer.encode("<s>" + text.replace("<image>", picture), add_special_tokens=False).ids
            inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}
            if a.get("image"):
                inputs["pixel_values"] = processor(Image.open(a["image"]), return_tensors="pt")["pixel_values"]
            yield inputs, a["answer"], tokenizer


def check(peer, directory, logits):
    os.chdir(os.path.join(directory, "model"))  # where the paths in its config.json lead from
    config = AutoConfig.from_pretrained(".")
    same, count = 0, 0
    with peer.patched():
        model = open_model(peer, config)
        for inputs, answer, tokenizer in prompts(config):
            ids = inputs["input_ids"][0]
            out = model.generate(**inputs, max_new_tokens=40, do_sample=False, pad_token_id=0,
                                 eos_token_id=config.text_config.eos_token_id)
            same += tokenizer.decode(out[0][len(ids):].tolist()).strip() == answer
            count += 1
            if logits and count == 1:
                save_file({"ids": ids.int(), "pixels": inputs["pixel_values"][0].contiguous(),
                           "logits": model(**inputs).logits[0].detach().contiguous()},
                          os.path.join("..", "logits.safetensors"))
    return same, count


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("peer")
    parser.add_argument("--logits", action="store_true")
    parser.add_argument("directory", nargs="+")
    a = parser.parse_args()
    torch.set_num_threads(1)
    peer = open_peer(a.peer)
    for d in [os.path.abspath(d) for d in a.directory]:
        same, count = check(peer, d, a.logits)
        print(f"{d}: {same} of {count} answers are the same", flush=True)
        assert same == count
