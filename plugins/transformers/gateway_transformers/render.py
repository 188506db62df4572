"""From turns to what a model reads: its chat template, images in words or in pixels, and no forged turns."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

from msgspec import Struct
from msgspec.json import decode

from gateway.plugin import Image, Prompt, Request, Role, Text, Turn, image_in_words
from gateway_transformers.errors import RequestRefused

MARK = "demonstrations.mark"
"""The id of the part that comes after packed demonstrations, and is of one request alone."""


class Message(Struct, frozen=True, kw_only=True):
    """One message for a chat template."""

    role: Role
    parts: tuple[str | Image, ...]


def refuse_unsupported(request: Request) -> None:
    """Refuse what this stage can not carry, rather than drop it silently.

    Raises:
        RequestRefused: the request has tools or tool turns, or asks for log-probabilities or an answer in a given form.
    """
    if any(turn.role == "tool" or turn.tool_calls for turn in request.turns):
        raise RequestRefused("tool turns are not supported by this stage; use a server behind the stage `openai`")
    if request.tools is not None and not (request.tool_choice and _json(request.tool_choice) == "none"):
        raise RequestRefused("`tools` are not supported by this stage; use a server behind the stage `openai`")
    form = _json(request.response_format) if request.response_format else None
    if form is not None and form != {"type": "text"}:
        raise RequestRefused(
            "this `response_format` is not supported by this stage; use a server behind the stage `openai`"
        )
    if request.sampling.logprobs is not None:
        raise RequestRefused("`logprobs` are not supported by this stage; use a server behind the stage `openai`")


def _json(text: Text) -> Any:
    return decode(text.text)


def leading(prompt: Prompt) -> tuple[Turn, ...]:
    """Give what a model reads before the caller's own words: leading system turns and demonstrations.

    Packed demonstrations stand in the first of the caller's turns; they alone are given of it.
    """
    turns = prompt.chat()
    before = turns[: len(turns) - len(_after_system(prompt.request.turns))]
    if prompt.form == "turns" or not prompt.demonstrations:
        return before
    packed = next(turn for turn in turns if turn.role == "user")
    ids = [part.id for part in packed.parts]
    shown = packed.parts[: ids.index(MARK)] if MARK in ids else ()
    lead = turns[: turns.index(packed)]
    return (*lead, Turn(role="user", parts=shown)) if shown else before


def _after_system(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    start = 0
    while start < len(turns) and turns[start].role == "system":
        start += 1
    return turns[start:]


class Renderer:
    """Renders chats for one tokenizer or processor.

    Text that looks like a control token of the model (``<|im_end|>``, ``<image>``) is broken by a space, so that no
    text can end a turn, forge one, or stand for an image. System turns are merged, or folded into user turns where the
    template takes none there, and neighbours of one role are merged where it wants them to alternate; what it takes is
    tried once, here.
    """

    def __init__(self, template: Any, tokenizer: Any, *, images: bool) -> None:
        self._template = template
        self._images = images
        self._controls = _controls(tokenizer, getattr(template, "image_token", None))
        if not self._works(_say("user", "one")):
            raise ValueError("the model has no usable chat template; give a model that was tuned for chat")
        self._system = self._works(_say("system", "one"), _say("user", "two"))
        self._late = self._works(_say("user", "one"), _say("system", "two"), _say("user", "three"))
        self._twice = self._works(_say("user", "one"), _say("user", "two"))

    def text(self, messages: tuple[Message, ...], *, ask: bool = True) -> str:
        """Render to text; `ask` adds the opening of the answer."""
        chat = [self._plain(message) for message in messages]
        text: str = self._template.apply_chat_template(chat, tokenize=False, add_generation_prompt=ask)
        return text

    def messages(self, turns: tuple[Turn, ...], found: tuple[Text, ...] = ()) -> tuple[Message, ...]:
        """Give the messages of `turns` in a form that the template takes; `found` is text found inside images."""
        number = 0
        made: list[Message] = []
        for turn in turns:
            parts: list[str | Image] = []
            for part in turn.parts:
                if isinstance(part, Text):
                    parts.append(self.safe(part.text))
                    continue
                number += 1
                read = " ".join(text.text for text in found if text.id.startswith(f"{part.id}#"))
                parts.append(part if self._images else image_in_words(part, number, self.safe(read)))
            made.append(Message(role=turn.role, parts=tuple(parts)))
        return self._shape(made)

    def safe(self, text: str) -> str:
        """Break every control token that `text` spells."""
        while self._controls.search(text):
            text = self._controls.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        return text

    def _shape(self, messages: list[Message]) -> tuple[Message, ...]:
        shaped: list[Message] = []
        waiting: tuple[str | Image, ...] = ()
        for message in messages:
            first = all(m.role == "system" for m in shaped)
            if message.role == "system" and not (self._system and (first or self._late)):
                waiting += message.parts
                continue
            if waiting and message.role == "user":
                message = Message(role="user", parts=waiting + message.parts)
                waiting = ()
            if shaped and shaped[-1].role == message.role and (message.role == "system" or not self._twice):
                shaped[-1] = Message(role=message.role, parts=shaped[-1].parts + message.parts)
            else:
                shaped.append(message)
        if waiting:
            shaped.append(Message(role="user", parts=waiting))
        return tuple(shaped)

    def _plain(self, message: Message) -> dict[str, Any]:
        if not self._images:
            return {"role": message.role, "content": "\n".join(str(part) for part in message.parts)}
        content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in message.parts]
        return {"role": message.role, "content": content}

    def _works(self, *messages: Message) -> bool:
        try:
            text = self.text(messages)
        except Exception:  # noqa: BLE001  a template raises whatever its author wrote
            return False
        return all(str(message.parts[0]) in text for message in messages)


def _say(role: Role, word: str) -> Message:
    return Message(role=role, parts=(f"word-{word}",))


def _controls(tokenizer: Any, image_token: str | None) -> re.Pattern[str]:
    """Make the pattern of every text that the tokenizer would read as one control token."""
    words = {str(token) for token in tokenizer.all_special_tokens}
    for added in tokenizer.added_tokens_decoder.values():
        text = added.content
        if added.special or (len(text) > 2 and text[0] in "<[" and text[-1] in ">]"):
            words.add(text)
    if image_token:
        words.add(image_token)
    # a single character can not be broken by a space, and is no marker that text could be mistaken for
    marks = sorted((re.escape(w) for w in words if len(w.strip()) > 1), key=len, reverse=True)
    return re.compile("|".join(marks) if marks else r"(?!)")


def pixels(images: tuple[Image, ...]) -> list[Any]:
    """Decode images to RGB."""
    from PIL import Image as Pillow

    return [Pillow.open(BytesIO(image.data)).convert("RGB") for image in images]
