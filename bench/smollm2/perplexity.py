#!/usr/bin/env python3
"""Perplexity by transformers, of the samples that mha2mla-train scores with evaluate.score "tokens".

    pip install torch==2.13.0 transformers==5.24.0
    python3 perplexity.py MODEL FILE.jsonl[:LIMIT] ...

Each sample stands alone; every token but its first is predicted. Prints, for each file and for all
together, what `mha2mla-train` prints: perplexity and the share of tokens that are the likeliest.
"""
import json
import math
import sys

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


@torch.inference_mode()
def score(model, tokenizer, path, limit):
    loss = right = n = 0
    with open(path, encoding="utf-8") as f:
        texts = [json.loads(line)["text"] for line in f]
    kept = 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=True).input_ids
        if ids.shape[1] > 512:  # data.max_length of configs/smollm2.json
            continue
        logits = model(ids).logits[0, :-1].double()
        labels = ids[0, 1:]
        loss += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        right += (logits.argmax(-1) == labels).sum().item()
        n += labels.numel()
        kept += 1
        if kept == limit:
            break
    return loss, right, n


def main(model_dir, files):
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{model_dir}/tokenizer.json")
    total = (0, 0, 0)
    for file in files:
        path, _, limit = file.partition(":")
        one = score(model, tokenizer, path, int(limit or 0))
        total = tuple(a + b for a, b in zip(total, one))
        print(f"{path}: perplexity {math.exp(one[0] / one[2]):.4f}, "
              f"{100 * one[1] / one[2]:.2f} % of {one[2]} tokens right")
    print(f"all: perplexity {math.exp(total[0] / total[2]):.4f}, "
          f"{100 * total[1] / total[2]:.2f} % of {total[2]} tokens right")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: perplexity.py MODEL FILE.jsonl[:LIMIT] ...")
    main(sys.argv[1], sys.argv[2:])
