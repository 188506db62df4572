"""The request and the answers of a decision, made again of its sealed content and its record. Pure.

What is not sealed is not there: ids of calls, and of an image what neither its bytes nor the record tell. Whether the
text is whole and in its places shows the keyed digest in the record; whoever rebuilds compares it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar, cast, get_args

import msgspec
from msgspec.structs import replace

from gateway.records.record import DecisionV1, ImageV1
from gateway.records.sealing import ContentV1, SealedImageV1, SealedTextV1
from gateway.records.shapes import CompletedV1
from gateway.values import (
    Choice,
    Completion,
    Image,
    Part,
    Request,
    Role,
    Sampling,
    Text,
    TokenLogprob,
    ToolCall,
    Turn,
    Usage,
)

_TURN = re.compile(r"messages\[(\d+)\]")
_PLACE = re.compile(r"\[(\d+)\](?:\.(?:text|refusal))?$")
_CALL = re.compile(r"(.*\.tool_calls\[\d+\](?:\.function)?)\.(name|arguments)")
_OTHERS = re.compile(r"choices\[\d+\]\.logprobs")
_CHOICE = re.compile(r"choices\[(\d+)\]\.")
_EXTRA = ("tools", "tool_choice", "response_format")
_T = TypeVar("_T")
_SAMPLED = tuple(name for name in Sampling.__struct_fields__ if name != "stop")


def request_of(content: ContentV1, record: DecisionV1) -> Request:
    """Make the request again, with the text that images carry. Raises ValueError where that can not be."""
    extra = {text.part: Text(id=text.part, text=text.text) for text in content.texts if text.part in _EXTRA}
    known = {image.part: image for image in record.images}
    sampling = {name: getattr(record.sampling, name) for name in _SAMPLED}
    return Request(
        id=content.id,
        department=record.department,
        model=record.model,
        turns=_turns([text for text in content.texts if text.part not in _EXTRA], content.images, known),
        sampling=Sampling(**sampling, stop=content.stop),
        tools=extra.get("tools"),
        tool_choice=extra.get("tool_choice"),
        response_format=extra.get("response_format"),
        stream=record.stream,
    )


def _turns(
    texts: Iterable[SealedTextV1], images: Iterable[SealedImageV1], known: Mapping[str, ImageV1]
) -> tuple[Turn, ...]:
    roles: dict[int, str] = {}
    parts: dict[int, list[Part]] = {}
    calls: dict[int, dict[str, dict[str, Text]]] = {}
    carried: dict[str, list[Text]] = {}
    shown = {image.part for image in images}
    for text in texts:
        turn, value = _turn(text.part), Text(id=text.part, text=text.text)
        owner = text.part.partition("#")[0]
        if owner in shown and owner != text.part:
            carried.setdefault(owner, []).append(value)
            continue
        roles[turn] = text.role or "user"
        if (call := _CALL.fullmatch(text.part)) is not None:
            calls.setdefault(turn, {}).setdefault(call[1], {})[call[2]] = value
        else:
            parts.setdefault(turn, []).append(value)
    for image in images:
        turn = _turn(image.part)
        roles.setdefault(turn, "user")
        parts.setdefault(turn, []).append(_image(image, tuple(carried.get(image.part, ())), known.get(image.part)))
    numbered = iter(range(1_000_000))
    return tuple(
        Turn(
            role=_role(roles[turn]),
            parts=tuple(sorted(parts.get(turn, ()), key=lambda part: _place(part.id))),
            tool_calls=tuple(
                ToolCall(id=f"call_{next(numbered)}", name=call["name"], arguments=call["arguments"])
                for call in _whole(calls.get(turn, {}))
            ),
        )
        for turn in sorted(roles)
    )


def _turn(part: str) -> int:
    found = _TURN.match(part)
    return 0 if found is None else int(found[1])  # what has no messages is one turn


def _place(part: str) -> tuple[int, int]:
    """Order the parts of a turn: by their number, and a refusal of the assistant last."""
    found = _PLACE.search(part)
    return (int(part.endswith(".refusal") and found is None), -1 if found is None else int(found[1]))


def _role(word: str) -> Role:
    if word not in get_args(Role):
        raise ValueError("the sealed content names an unknown role")
    return cast(Role, word)


def _whole(calls: Mapping[str, dict[str, Text]]) -> list[dict[str, Text]]:
    if any(call.keys() != {"name", "arguments"} for call in calls.values()):
        raise ValueError("the sealed content holds half a call of a tool")
    return list(calls.values())


def _image(image: SealedImageV1, texts: tuple[Text, ...], known: ImageV1 | None) -> Image:
    values = {
        "type": "image",
        "id": image.part,
        "data": image.data,
        "media_type": image.media_type,
        "width": image.width,
        "height": image.height,
        "digest": hashlib.sha256(image.data).hexdigest(),
        "source": "png" if known is None else known.source,
        "modality": None if known is None else known.modality,
    }
    return replace(_as(values, Image), texts=texts)


def _as(values: dict[str, object], kind: type[_T]) -> _T:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError:
        raise ValueError("the sealed content does not fit this version") from None


def found_of(content: ContentV1) -> tuple[Text, ...]:
    """Give the text that was found in images."""
    return tuple(Text(id=text.part, text=text.text) for text in content.found)


def completion_of(content: ContentV1, record: DecisionV1, number: int) -> Completion | None:
    """Make the answer of one asking again, before redaction; None where there is none, or not all of it.

    Raises ValueError as `request_of`.
    """
    completed = record.attempts[number].completed
    answer = content.attempts[number].answer if number < len(content.attempts) else None
    if answer is None or not isinstance(completed, CompletedV1):
        return None
    texts: dict[int, list[Text]] = {}
    for text in answer:
        if (choice := _CHOICE.match(text.part)) is None:
            return None
        texts.setdefault(int(choice[1]), []).append(Text(id=text.part, text=text.text))
    if sorted(texts) != list(range(len(completed.choices))):
        return None
    choices = []
    for index, kept in enumerate(completed.choices):
        first, *rest = texts[index]
        others = rest.pop() if rest and _OTHERS.fullmatch(rest[-1].id) else None
        if len(rest) % 2:
            return None
        pairs = zip(rest[::2], rest[1::2], strict=True)
        calls = tuple(ToolCall(id=f"call_{i}", name=name, arguments=word) for i, (name, word) in enumerate(pairs))
        ends = _as({"index": index, "text": first, "finish_reason": kept.finish_reason}, Choice)
        choices.append(replace(ends, tool_calls=calls, logprobs=_logprobs(first, others)))
    return Completion(
        model=completed.model,
        choices=tuple(choices),
        usage=Usage(prompt_tokens=completed.prompt_tokens, completion_tokens=completed.completion_tokens),
        blind=completed.blind,
        revision=completed.revision,
    )


def _logprobs(text: Text, others: Text | None) -> tuple[TokenLogprob, ...] | None:
    """Give the tokens beside an answer back as the one text that they were audited and sealed as, without numbers."""
    if others is None:
        return None
    return (TokenLogprob(token=text.text, logprob=0.0, top=((others.text, 0.0),)),)
