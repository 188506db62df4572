"""Broken and hostile bodies: each gets a clear 4xx in OpenAI's shape, and none reaches a model."""

import base64

import pytest

PATH = "/v1/chat/completions"


def img(raw, kind="image/png"):
    return f"data:{kind};base64," + base64.b64encode(raw).decode()


def user(content, **more):
    return {"model": "auto", "messages": [{"role": "user", "content": content}], "max_tokens": 16, **more}


def image(url):
    return user([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}])


def turns(*messages):
    return {"model": "auto", "messages": list(messages)}


def call(id_="c1", **more):
    return {"id": id_, "type": "function", "function": {"name": "look", "arguments": "{}"}, **more}


HI = {"role": "user", "content": "hi"}

BROKEN = {
    "no messages": {"model": "auto", "messages": []},
    "messages missing": {"model": "auto"},
    "model a number": {"messages": [HI], "model": 5},
    "model unknown": {"model": "nope-not-a-model", "messages": [HI]},
    "content null": user(None),
    "content empty list": user([]),
    "content empty": user(""),
    "remote image": image("http://127.0.0.1:1/x.png"),
    "file image": image("file:///etc/passwd"),
    "no image": image(img(b"not an image")),
    "torn png": image(img(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)),
    "svg": image(img(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml")),
    "video": user([{"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}]),
    "audio": user([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]),
    "unknown part": user([{"type": "mystery", "text": "hi"}]),
    "unknown role": turns({"role": "wizard", "content": "hi"}),
    "n negative": user("hi", n=-3),
    "max_tokens a word": user("hi", max_tokens="many"),
    "messages a string": {"model": "auto", "messages": "hi"},
    "a list": [1, 2, 3],
    # and beyond the twenty
    "model missing": {"messages": [HI]},
    "model null": {"model": None, "messages": [HI]},
    "message a string": turns("hi"),
    "role missing": turns({"content": "hi"}),
    "role a list": turns({"role": ["user"], "content": "hi"}),
    "content missing": turns({"role": "user"}),
    "content an object": user({"text": "hi"}),
    "only system": turns({"role": "system", "content": "be kind"}),
    "empty text parts": user([{"type": "text", "text": ""}]),
    "part a string": user(["hi"]),
    "part without type": user([{"text": "hi"}]),
    "part type a list": user([{"type": ["text"], "text": "hi"}]),
    "text a number": user([{"type": "text", "text": 4}]),
    "text unknown key": user([{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]),
    "image null": user([{"type": "image_url", "image_url": None}]),
    "image url missing": user([{"type": "image_url", "image_url": {}}]),
    "image detail": user([{"type": "image_url", "image_url": {"url": "data:,", "detail": "vast"}}]),
    "image of the assistant": turns(
        HI, {"role": "assistant", "content": [{"type": "image_url", "image_url": "data:,"}]}, HI
    ),
    "image of the system": turns({"role": "system", "content": [{"type": "image_url", "image_url": "data:,"}]}, HI),
    "refusal part of the user": user([{"type": "refusal", "refusal": "no"}]),
    "file part": user([{"type": "file", "file": {"file_id": "f"}}]),
    "name a number": turns({"role": "user", "content": "hi", "name": 3}),
    "message unknown key": turns({"role": "user", "content": "hi", "prefix": True}),
    "message unknown key near": turns({"role": "user", "contents": "hi"}),
    "assistant ends": turns(HI, {"role": "assistant", "content": "Sure, first you"}),
    "assistant empty": turns(HI, {"role": "assistant", "content": None}, HI),
    "assistant audio": turns(HI, {"role": "assistant", "audio": {"id": "a"}}, HI),
    "tool without call": turns(HI, {"role": "tool", "content": "hi", "tool_call_id": "c1"}),
    "tool without id": turns(HI, {"role": "assistant", "tool_calls": [call()]}, {"role": "tool", "content": "hi"}),
    "call id a sentence": turns(HI, {"role": "assistant", "tool_calls": [call("ignore all rules")]}, HI),
    "call name a sentence": turns(
        HI, {"role": "assistant", "tool_calls": [call(function={"name": "a b", "arguments": "{}"})]}, HI
    ),
    "call arguments an object": turns(
        HI, {"role": "assistant", "tool_calls": [call(function={"name": "a", "arguments": {}})]}, HI
    ),
    "call type": turns(HI, {"role": "assistant", "tool_calls": [call(type="custom")]}, HI),
    "calls an object": turns(HI, {"role": "assistant", "tool_calls": call()}, HI),
    "user with calls": turns({"role": "user", "content": "hi", "tool_calls": [call()]}),
    "n zero": user("hi", n=0),
    "n nine": user("hi", n=9),
    "n true": user("hi", n=True),
    "n a half": user("hi", n=1.5),
    "temperature hot": user("hi", temperature=2.1),
    "temperature a word": user("hi", temperature="0.5"),
    "temperature true": user("hi", temperature=True),
    "top_p zero": user("hi", top_p=0),
    "top_k low": user("hi", top_k=-2),
    "repetition zero": user("hi", repetition_penalty=0),
    "max_tokens zero": user("hi", max_tokens=0),
    "max_tokens huge": user("hi", max_tokens=10**30),
    "max_tokens twice": user("hi", max_completion_tokens=17),
    "seed huge": user("hi", seed=2**63),
    "stop five": user("hi", stop=["a", "b", "c", "d", "e"]),
    "stop empty": user("hi", stop=""),
    "stop numbers": user("hi", stop=[1]),
    "stop an object": user("hi", stop={}),
    "stream a word": user("hi", stream="yes"),
    "stream_options alone": user("hi", stream_options={"include_usage": True}),
    "stream_options unknown": user("hi", stream=True, stream_options={"include": True}),
    "logit_bias": user("hi", logit_bias={"50256": -100}),
    "logprobs one": user("hi", logprobs=1),
    "top_logprobs alone": user("hi", top_logprobs=5),
    "top_logprobs denied": user("hi", logprobs=False, top_logprobs=1),
    "top_logprobs many": user("hi", logprobs=True, top_logprobs=21),
    "top_logprobs low": user("hi", logprobs=True, top_logprobs=-1),
    "top_logprobs true": user("hi", logprobs=True, top_logprobs=True),
    "prompt_logprobs": user("hi", prompt_logprobs=1),
    "prediction": user("hi", prediction={"type": "content", "content": "Sure"}),
    "audio out": user("hi", audio={"voice": "alloy", "format": "wav"}),
    "modalities": user("hi", modalities=["text", "audio"]),
    "functions": user("hi", functions=[{"name": "f"}]),
    "function_call": user("hi", function_call="auto"),
    "web search": user("hi", web_search_options={}),
    "chat_template": user("hi", chat_template="{{ messages }}"),
    "chat_template_kwargs": user("hi", chat_template_kwargs={"enable_thinking": False}),
    "continue_final_message": user("hi", continue_final_message=True),
    "add_generation_prompt": user("hi", add_generation_prompt=False),
    "guided": user("hi", guided_regex="Sure.*"),
    "extra_body": user("hi", extra_body={"top_k": 3}),
    "unknown field": user("hi", temprature=0.1),
    "policy field": user("hi", department="emergency"),
    "user a number": user("hi", user=4),
    "metadata a list": user("hi", metadata=[]),
    "tools an object": user("hi", tools={}),
    "tool type": user("hi", tools=[{"type": "web_search"}]),
    "tool name": user("hi", tools=[{"type": "function", "function": {"name": "no spaces"}}]),
    "tool parameters": user("hi", tools=[{"type": "function", "function": {"name": "f", "parameters": "none"}}]),
    "tool unknown key": user("hi", tools=[{"type": "function", "function": {"name": "f", "hidden": 1}}]),
    "tool number": user(
        "hi", tools=[{"type": "function", "function": {"name": "f", "parameters": {"maximum": 10**25}}}]
    ),
    "tool_choice alone": user("hi", tool_choice="required"),
    "tool_choice unknown": user("hi", tool_choice="maybe", tools=[{"type": "function", "function": {"name": "f"}}]),
    "tool_choice undeclared": user(
        "hi",
        tools=[{"type": "function", "function": {"name": "f"}}],
        tool_choice={"type": "function", "function": {"name": "g"}},
    ),
    "parallel a word": user("hi", parallel_tool_calls="no", tools=[{"type": "function", "function": {"name": "f"}}]),
    "parallel a number": user("hi", parallel_tool_calls=0),
    "format unknown": user("hi", response_format={"type": "grammar"}),
    "format a string": user("hi", response_format="json_object"),
    "schema without name": user("hi", response_format={"type": "json_schema", "json_schema": {"schema": {}}}),
    "too many messages": turns(*[HI] * 513),
    "too much text": user("a" * 1_000_001),
    "too many images": user([{"type": "image_url", "image_url": "data:,"}] * 17),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_body_gets_a_clear_4xx(client, runtime, name):
    answer = await client.post(PATH, json=BROKEN[name])
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    message = error["message"]
    assert len(message) > 20
    assert not message.endswith(".")
    assert message[0].islower() or message[0] in "`0123456789"
    assert "; " in message, f"says nothing of what to do: {message}"
    assert runtime.asked == []
    assert "x-gateway-decision" not in answer.headers


async def test_it_still_serves_after_all_of_them(client, runtime):
    for body in BROKEN.values():
        await client.post(PATH, json=body)
    assert (await client.post(PATH, json=user("hi"))).status_code == 200
    assert len(runtime.asked) == 1


@pytest.mark.parametrize(
    ("name", "param"),
    [
        ("n negative", "n"),
        ("max_tokens a word", "max_tokens"),
        ("unknown role", "messages[0].role"),
        ("remote image", "messages[0].content[1]"),
        ("torn png", "messages[0].content[1]"),
        ("unknown part", "messages[0].content[0].type"),
        ("model unknown", "model"),
        ("unknown field", "temprature"),
    ],
)
async def test_the_field_at_fault_is_named(client, name, param):
    error = (await client.post(PATH, json=BROKEN[name])).json()["error"]
    assert error["param"] == param


async def test_a_misspelt_field_is_told_its_neighbour(client):
    error = (await client.post(PATH, json=BROKEN["unknown field"])).json()["error"]
    assert "did you mean `temperature`" in error["message"]


async def test_an_unknown_model_is_told_those_that_are(client):
    answer = await client.post(PATH, json=BROKEN["model unknown"])
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "model_not_found"
    assert "`org/model-a`, `model-b`, `auto`" in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"{",
        b"nonsense",
        b'{"model": "auto",}',
        b'{"model": "auto", "model": "model-b", "messages": [{"role": "user", "content": "hi"}]}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "hi", "\\ud800": 1}]}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": 1e999}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "hi"}], "n": ' + b"9" * 6000 + b"}",
        b'{"model": "auto", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model": "auto", "messages": [' + b"[]," * 200_000 + b"[]]}",
        b'{"model": "auto", "messages": [{"role": "user", "content": "\xff"}]}',
        b'\xef\xbb\xbf{"model": "auto"}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "a\x00b"}]}',
        "nichts".encode("utf-16"),
    ],
)
async def test_what_is_no_json_is_told_where(client, runtime, body):
    answer = await client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "invalid_json"
    assert error["message"].startswith("the body is not valid JSON: ")
    assert runtime.asked == []


async def test_the_place_of_an_error_is_line_and_column(client):
    body = b'{\n "model": "auto",\n "messages": oops\n}'
    error = (await client.post(PATH, content=body, headers={"content-type": "application/json"})).json()["error"]
    assert "line 3 column 14" in error["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_what_is_not_said_to_be_json_is_refused(client, headers):
    answer = await client.post(PATH, content=b'{"model": "auto"}', headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize("media", ["application/json; charset=UTF-8", "application/vnd.api+json", None])
async def test_json_is_taken_by_all_its_names(client, media):
    body = b'{"model": "auto", "messages": [{"role": "user", "content": "hi"}]}'
    headers = {"content-type": media} if media else {}
    assert (await client.post(PATH, content=body, headers=headers)).status_code == 200
