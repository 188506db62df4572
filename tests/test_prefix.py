"""What stands before the user's question is the same for every request of a policy, byte by byte.

A server that keeps what it has read, as vLLM, SGLang and llama.cpp do, then reads a policy's role and demonstrations
once. Seen at three places: in the prompt, in the bodies that reach a model's server, and in the text and tokens of the
embedded model.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from e2e.client_kit import data_url, picture
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import Served, gateways, policy

from gateway.testing import demonstration, image, request
from gateway.testing.upstream import ReferenceUpstream
from gateway.values import Budget, Demonstration, Form, Image, Prompt, Request, Sampling, Text
from gateway_clinical.injector import ClinicalConfig
from gateway_clinical.injector import build as build_injector
from gateway_openai.wire import STREAMED, encode
from gateway_transformers import Config
from gateway_transformers.load import load
from gateway_transformers.reading import Reader

ROLE = "You are a careful radiologist."
PICTURES = (image(16, 16, id="a", ground=40), image(24, 16, id="b", ground=200))
SHOWN = tuple(demonstration(n, refuses=n % 2 == 0, image=PICTURES[0] if n == 1 else None) for n in range(4))
END = "The examples end here."
"""How the part of a packed message begins that belongs to one request."""

texts = st.text(max_size=200)
turns = st.lists(st.tuples(st.sampled_from(("user", "assistant")), texts), max_size=4)
asked = st.builds(
    lambda name, text, history, pictures, sampling: request(
        text, id=name, images=pictures, history=history, sampling=sampling
    ),
    st.text(min_size=1, max_size=12),
    texts,
    turns,
    st.lists(st.sampled_from(PICTURES), max_size=2),
    st.builds(Sampling, seed=st.none() | st.integers(0, 9), n=st.integers(1, 3), max_tokens=st.none() | st.just(9)),
)


def shared(*rows: Any) -> Any:
    """Give what all rows begin with."""
    first: Sequence[Any] = rows[0]
    length = 0
    for together in zip(*rows, strict=False):
        if any(one != together[0] for one in together):
            break
        length += 1
    return first[:length]


def pictured(request: Request) -> bool:
    """Tell whether the message that demonstrations are packed into has an image of the caller's."""
    first = request.turns[0]
    return first.role == "user" and any(isinstance(part, Image) for part in first.parts)


def stable(prompt: Prompt) -> bytes:
    """Give what stands before the caller's own turns, as bytes; packed, before the mark of the request."""
    chat = prompt.chat()
    if prompt.form == "turns":
        return msgspec.json.encode(chat[: 2 * len(prompt.demonstrations) + (prompt.role is not None)])
    lead = 1 if prompt.role is not None else 0
    parts = list(itertools.takewhile(lambda part: getattr(part, "id", "") != "demonstrations.mark", chat[lead].parts))
    assert len(parts) < len(chat[lead].parts), "the mark comes after them"
    return msgspec.json.encode((chat[:lead], parts))


@pytest.mark.parametrize("form", ["turns", "packed"])
@pytest.mark.parametrize("role", [None, ROLE])
@settings(max_examples=60, deadline=None)
@given(one=asked, other=asked, found=st.lists(texts, max_size=2))
def test_a_prompt_begins_the_same(form: Form, role: str | None, one: Request, other: Request, found: list[str]) -> None:
    seen = tuple(Text(id=f"found[{n}]", text=text) for n, text in enumerate(found))
    first = stable(Prompt(request=one, demonstrations=SHOWN, form=form, role=role))
    assert first == stable(Prompt(request=other, demonstrations=SHOWN, form=form, role=role, found=seen))
    for demo in SHOWN:
        for text in (demo.question, demo.answer):
            assert text.encode() in first, "it is what is shown, and whole"


@pytest.fixture(scope="module")
def chosen() -> tuple[Demonstration, ...]:
    """Eight fixed demonstrations of the real library."""
    return asyncio.run(build_injector(ClinicalConfig()).inject(request(), Budget(demonstrations=8, mix=0.5)))


@settings(max_examples=60, deadline=None)
@given(one=asked, other=asked)
@pytest.mark.parametrize("form", ["turns", "packed"])
def test_a_body_begins_the_same(form: Form, chosen: tuple[Demonstration, ...], one: Request, other: Request) -> None:
    """To the byte: the model's name, the role and the demonstrations come before all else."""
    # a packed message with an image is a list of parts, and one without is a text
    assume(form == "turns" or pictured(one) == pictured(other))
    one_body = encode(Prompt(request=one, demonstrations=chosen, form=form, role=ROLE), "m", **STREAMED)
    other_body = encode(Prompt(request=other, demonstrations=chosen, form=form, role=ROLE), "m")
    before = shared(one_body, other_body)
    last = msgspec.json.encode(chosen[-1].answer)[1:-1]
    assert last in before, "the last demonstration's answer is in what two bodies share"
    assert before.startswith(b'{"model":"m","messages":[{"role":"system"')


QUESTIONS = ("Which imaging plane is shown in this brain MRI?", "Is the heart enlarged on this chest film?")
POLICIES: dict[str, dict[str, str]] = {
    "turns": {"demonstrations": f'{{stage: clinical, deadline: 5s, role: "{ROLE}"}}'},
    "packed": {"demonstrations": f'{{stage: clinical, deadline: 5s, form: packed, role: "{ROLE}"}}'},
    "pictures": {"demonstrations": "{stage: clinical, deadline: 20s, config: {images: true}}"},
    "windowed": {"demonstrations": f'{{stage: clinical, deadline: 5s, role: "{ROLE}"}}', "stream": "windowed"},
}


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """The bodies that a model's server was sent by a gateway that is served for real, by department."""
    upstream = ReferenceUpstream("The sagittal plane.")
    with upstream.in_thread(), gateways(tmp_path_factory.mktemp("prefix")) as serve:
        served: Served = serve({name: policy(upstream.url, department=name, **more) for name, more in POLICIES.items()})
        found: dict[str, list[dict[str, Any]]] = {}
        for name in POLICIES:
            key = served.key(department=name)
            for number, question in enumerate(QUESTIONS):
                fields: dict[str, Any] = {"temperature": 0.5, "seed": 7} if number else {"max_tokens": 30}
                assert served.chat(question, key, **fields)[0] == 200
            before = [{"role": "user", "content": QUESTIONS[0]}, {"role": "assistant", "content": "Sagittal."}]
            talk = [*before, {"role": "user", "content": QUESTIONS[1]}]
            assert served.post({"model": "auto", "messages": talk}, key)[0] == 200
            shown = [
                {"type": "image_url", "image_url": {"url": data_url(picture())}},
                {"type": "text", "text": QUESTIONS[0]},
            ]
            for n in (1, 2):
                assert served.chat(shown, key, n=n)[0] == 200
            found[name] = [each.body for each in upstream.requests]
            upstream.forget()
        yield found


@pytest.mark.parametrize("department", POLICIES)
def test_what_a_server_is_sent_begins_the_same(department: str, bodies: dict[str, list[dict[str, Any]]]) -> None:
    sent = bodies[department]
    assert len(sent) == 5
    groups = [sent] if department != "packed" else [sent[:3], sent[3:]]
    for group in groups:
        written = [msgspec.json.encode(body) for body in group]  # parsed JSON keeps the order in which it was sent
        before = shared(*written)
        own = [body["messages"] for body in group]
        if department == "packed":
            assert END.encode() in before
            continue
        lead = (department != "pictures") + 2 * 4
        assert all(messages[:lead] == own[0][:lead] for messages in own)
        assert all(messages[lead]["role"] == "user" for messages in own)
        ends = msgspec.json.encode({"model": group[0]["model"], "messages": own[0][:lead]}).removesuffix(b"]}")
        assert before.startswith(ends)
        if department == "pictures":
            assert b"data:image/png;base64," in before


@pytest.fixture(scope="module")
def reader() -> Reader:
    """The reader of the embedded model: its real tokenizer and chat template."""
    loaded = load(Config())
    return Reader(loaded.tokenizer, loaded.processor)


@pytest.mark.parametrize("form", ["turns", "packed"])
def test_the_embedded_model_reads_the_same_beginning(
    reader: Reader, chosen: tuple[Demonstration, ...], form: Form
) -> None:
    @settings(max_examples=30, deadline=None)
    @given(one=asked, other=asked)
    def check(one: Request, other: Request) -> None:
        first, second = (
            reader.read(Prompt(request=each, demonstrations=chosen, form=form, role=ROLE)) for each in (one, other)
        )
        before = shared(first.text, second.text)
        assert chosen[-1].answer in before and ROLE in before
        tokens = len(shared(first.ids, second.ids))
        assert tokens > 400, "eight demonstrations are read once"
        if form == "turns":
            assert first.mark == second.mark and tokens >= first.mark > 400

    check()
