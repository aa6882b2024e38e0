#!/usr/bin/env python3
"""Talks to a running mha2mla-serve by OpenAI's own Python client: models, an answer with a picture, a stream,
several turns, errors, eight answers at a time, and a client that leaves.

    python3 -m venv /tmp/openai && /tmp/openai/bin/pip install openai==3.57.0
    build/mha2mla-serve configs/quickstart/model --port 8080 &
    /tmp/openai/bin/python tests/serve/openai_client.py http://127.0.0.1:8080 PICTURE.png

Ran with Python 3.11 and openai 3.57.0. Development only: no test needs it.
"""
import base64
import concurrent.futures
import sys

import openai


def question(picture, text):
    with open(picture, "rb") as f:
        url = "data:image/png;base64," + base64.b64encode(f.read()).decode()
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]}


def check_answer(client, ask):
    r = client.chat.completions.create(model="any", messages=[ask], temperature=0)
    assert r.object == "chat.completion" and r.model == "any" and r.choices[0].message.role == "assistant"
    assert r.choices[0].finish_reason in ("stop", "length") and r.choices[0].message.content
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens
    assert r.model_extra["cache"]["bytes"] > 0 and r.model_extra["timings"]["predicted_n"] == r.usage.completion_tokens
    print("answer:", r.choices[0].message.content)
    return r.choices[0].message.content


def check_stream(client, ask, answer):
    text, usage, ended = "", None, None
    for e in client.chat.completions.create(model="any", messages=[ask], stream=True, stream_options={"include_usage": True}):
        assert e.object == "chat.completion.chunk"
        if e.choices:
            text += e.choices[0].delta.content or ""
            ended = e.choices[0].finish_reason or ended
        usage = e.usage or usage
    assert text == answer and ended == "stop" and usage.completion_tokens > 0
    print("stream: the same,", usage)


def check_turns(client, ask, answer):
    turns = [ask, {"role": "assistant", "content": answer}, {"role": "user", "content": "And below that?"}]
    r = client.chat.completions.create(model="any", messages=turns, max_completion_tokens=5, stop=["never"], seed=1)
    print("second turn:", r.choices[0].message.content)


def refused(kind, status, param, call):
    try:
        call()
    except kind as e:
        assert e.status_code == status and e.param == param, (e.status_code, e.param)
        print("refused:", e.body["message"])
    else:
        raise AssertionError("is not refused")


def check_errors(client, url, ask):
    create = client.chat.completions.create
    text = [{"role": "user", "content": "Q"}]
    refused(openai.BadRequestError, 400, "tools", lambda: create(model="m", messages=text, tools=[{"type": "function", "function": {"name": "f"}}]))
    refused(openai.BadRequestError, 400, "response_format", lambda: create(model="m", messages=text, response_format={"type": "json_object"}))
    refused(openai.BadRequestError, 400, "n", lambda: create(model="m", messages=text, n=2))
    remote = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/a.png"}}]}]
    refused(openai.BadRequestError, 400, "messages[0].content[0]", lambda: create(model="m", messages=remote))
    refused(openai.BadRequestError, 400, "messages", lambda: create(model="m", messages=[{"role": "user", "content": "red " * 5000}]))
    refused(openai.NotFoundError, 404, None, lambda: client.embeddings.create(model="m", input="x"))


def check_together(client, ask, answer):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        all_of_them = [pool.submit(client.chat.completions.create, model="m", messages=[ask]) for _ in range(16)]
        assert {f.result().choices[0].message.content for f in all_of_them} == {answer}
    print("together: 16 times the same")


def check_leaving(client, ask):
    stream = client.chat.completions.create(model="m", messages=[ask], stream=True)
    next(iter(stream))
    stream.close()
    print("left")


def main(url, picture):
    client = openai.OpenAI(base_url=url + "/v1", api_key="0123456789abcdef", max_retries=2)
    models = client.models.list()
    print("openai", openai.__version__, "models:", [m.id for m in models.data])
    ask = question(picture, "What is at the top left?")
    answer = check_answer(client, ask)
    check_stream(client, ask, answer)
    check_turns(client, ask, answer)
    check_errors(client, url, ask)
    check_together(client, ask, answer)
    check_leaving(client, ask)
    assert check_answer(client, ask) == answer
    print("all as it should be")


if __name__ == "__main__":
    main(*sys.argv[1:])
