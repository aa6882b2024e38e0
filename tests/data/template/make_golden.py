"""Makes cases.json: conversations as the published chat templates render them, and the byte ranges
that are trained.

    pip install jinja2==3.1.6
    python tests/data/template/make_golden.py REAL

REAL is a directory that holds tokenizers/{llama3,qwen2_5}/tokenizer_config.json (see
data/fetch-real-data.sh). The sources:
  llama3     "chat_template" of Meta-Llama-3-8B-Instruct's tokenizer_config.json. That version always
             adds the prompt for an answer; later ones only on request, as is done here.
  chatml     "chat_template" of Qwen2.5-Instruct's tokenizer_config.json
  qwen2_vl   the part for text of Qwen2.5-VL-Instruct's "chat_template" (below)
  vicuna     the chat_template of llava-hf/llava-1.5-7b-hf (below, for text only), with "</s>" behind
             an answer instead of a blank: so the model was trained (haotian-liu/LLaVA,
             llava/conversation.py, conv_vicuna_v1, sep2)
  vicuna_v1  get_prompt of that file's SeparatorStyle.TWO
  plain      get_prompt of that file's conv_llava_plain, sep "\\n", as preprocess_plain uses it"""

import json
import os
import sys

from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))

LLAVA_HF = ("{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}"
            "{% endif %}{% if message['role'] != 'assistant' %}{{ message['content'] + ' '}}{% else %}"
            "{{ message['content'] + '</s>'}}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")
QWEN_VL = ("{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
           "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
           "{{ message['content'] }}<|im_end|>\n{% endfor %}"
           "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
VICUNA_SYSTEM = ("A chat between a curious user and an artificial intelligence assistant. "
                 "The assistant gives helpful, detailed, and polite answers to the user's questions.")


def jinja(source, **names):
    # as transformers compiles chat templates
    t = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)
    return lambda messages, prompt: t.render(messages=messages, add_generation_prompt=prompt, **names)


def vicuna_v1(messages, prompt):
    system = VICUNA_SYSTEM
    if messages[0]["role"] == "system":
        system, messages = messages[0]["content"], messages[1:]
    out = system + " "
    for m in messages:
        user = m["role"] == "user"
        out += ("USER" if user else "ASSISTANT") + ": " + m["content"] + (" " if user else "</s>")
    return out + ("ASSISTANT:" if prompt else "")


def plain(messages, prompt):
    return "".join(m["content"] + ("\n" if m["role"] == "assistant" else "") for m in messages)


def llama3(source):
    render = jinja(source, bos_token="<|begin_of_text|>")
    tail = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    assert render([], False).endswith(tail)
    return lambda messages, prompt: render(messages, False) if prompt else render(messages, False)[:-len(tail)]


def conversations():
    user = lambda text: {"role": "user", "content": text}
    answer = lambda text: {"role": "assistant", "content": text}
    system = {"role": "system", "content": "Answer in one word."}
    image = user("<image>\nWhat is this?")
    yield [image]
    yield [image, answer("A teapot.")]
    yield [system, image, answer("Teapot")]
    yield [image, answer("A teapot."), user("Which colour?"), answer("Blue, über alles 犬.")]
    yield [system, image, answer("A teapot."), user("Which colour?"), answer("Blue"), user("Sure?")]
    yield [user("  Blanks around\u3000\n"), answer("\t \x1f kept or not  \u00a0"), user("ok"), answer("")]
    yield [user("It's <b>\"5 & 6\"</b> {{ x }} {% y %}"), answer("\\n is no line break & <i>")]


def main():
    config = lambda name: json.load(open(os.path.join(sys.argv[1], "tokenizers", name, "tokenizer_config.json"),
                                         encoding="utf-8"))["chat_template"]
    renderers = {  # how it renders, and what ends an answer
        "vicuna": (jinja(LLAVA_HF), "</s>"), "vicuna_v1": (vicuna_v1, "</s>"),
        "llama3": (llama3(config("llama3")), "<|eot_id|>"), "chatml": (jinja(config("qwen2_5")), "<|im_end|>"),
        "qwen2_vl": (jinja(QWEN_VL), "<|im_end|>"), "plain": (plain, "\n")}
    cases = []
    for name, (render, stop) in renderers.items():
        for messages in conversations():
            text = render(messages, False)
            trained = []
            for i, m in enumerate(messages):
                if m["role"] != "assistant":
                    continue
                prompt = render(messages[:i], True)  # the answer is what follows its prompt
                assert text.startswith(prompt)
                end = text.index(stop, len(prompt)) + len(stop)
                trained.append([len(prompt.encode()), len(text[:end].encode())])
            cases.append({"template": name, "messages": [[m["role"], m["content"]] for m in messages], "text": text,
                          "prompt": render(messages, True), "trained": trained})
    with open(os.path.join(HERE, "cases.json"), "w", encoding="utf-8") as f:
        f.write("[" + ",\n".join(json.dumps(c) for c in cases) + "]\n")


main()
