"""From turns to what a model reads: its chat template, and no forged turns."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec import Struct, structs

from gateway.plugin import Prompt, Role, Text, Turn, image_in_words


class Message(Struct, frozen=True, kw_only=True):
    """One message for a chat template."""

    role: Role
    content: str


def lead(prompt: Prompt) -> int:
    """Count the turns before the caller's own: leading system turns and demonstrations."""
    turns = prompt.request.turns
    start = next((number for number, turn in enumerate(turns) if turn.role != "system"), len(turns))
    return len(prompt.chat()) - len(turns) + start


class Renderer:
    """Renders chats by a Jinja template, in a sandbox.

    Text that looks like a control token of the model (``<|im_end|>``; `controls` finds them) is broken by a space, so
    that no text can end a turn or forge one. System turns are merged, or folded into user turns where the template
    takes none there, and neighbours of one role are merged where it wants them to alternate; what it takes is tried
    once, here.
    """

    def __init__(self, template: str, *, controls: re.Pattern[str], bos: str, eos: str) -> None:
        self._controls = controls
        self._names = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = _environment().from_string(template)
        except TemplateError as exc:
            raise ValueError(f"the chat template can not be read ({type(exc).__name__})") from exc
        if not template or not self._works(("user", "one")):
            raise ValueError("the model has no usable chat template; give a model that was tuned for chat")
        self._system = self._works(("system", "one"), ("user", "two"))
        self._late = self._works(("user", "one"), ("system", "two"), ("user", "three"))
        self._twice = self._works(("user", "one"), ("user", "two"))

    def text(self, messages: tuple[Message, ...], *, ask: bool = True) -> str:
        """Render to text; `ask` adds the opening of the answer."""
        chat = [structs.asdict(message) for message in messages]
        return self._template.render(messages=chat, add_generation_prompt=ask, **self._names)

    def messages(self, turns: tuple[Turn, ...], found: tuple[Text, ...] = ()) -> tuple[Message, ...]:
        """Give the messages of `turns` in a form that the template takes; `found` is text found inside images."""
        number = 0
        made: list[Message] = []
        for turn in turns:
            said: list[str] = []
            for part in turn.parts:
                if isinstance(part, Text):
                    said.append(self.safe(part.text))
                    continue
                number += 1
                read = " ".join(text.text for text in found if text.id.startswith(f"{part.id}#"))
                said.append(image_in_words(part, number, self.safe(read)))
            made.append(Message(role=turn.role, content="\n".join(said)))
        return self._shape(made)

    def safe(self, text: str) -> str:
        """Break every control token that `text` spells."""
        while self._controls.search(text):
            text = self._controls.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        return text

    def _shape(self, messages: list[Message]) -> tuple[Message, ...]:
        shaped: list[Message] = []
        waiting = ""
        for message in messages:
            first = all(before.role == "system" for before in shaped)
            if message.role == "system" and not (self._system and (first or self._late)):
                waiting = _joined(waiting, message.content)
                continue
            if waiting and message.role == "user":
                message = Message(role="user", content=_joined(waiting, message.content))
                waiting = ""
            if shaped and shaped[-1].role == message.role and (message.role == "system" or not self._twice):
                shaped[-1] = Message(role=message.role, content=_joined(shaped[-1].content, message.content))
            else:
                shaped.append(message)
        if waiting:
            shaped.append(Message(role="user", content=waiting))
        return tuple(shaped)

    def _works(self, *said: tuple[Role, str]) -> bool:
        try:
            text = self.text(tuple(Message(role=role, content=f"word-{word}") for role, word in said))
        except Exception:  # noqa: BLE001  a template raises whatever its author wrote
            return False
        return all(f"word-{word}" in text for _, word in said)


def _joined(one: str, other: str) -> str:
    return f"{one}\n{other}" if one else other


def _environment() -> ImmutableSandboxedEnvironment:
    """Make what chat templates expect to find: their names and filters are a convention of model cards."""

    def fail(message: str) -> None:
        raise TemplateError(message)

    def as_json(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    # plain text for a model, and no page for a browser
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    made.filters["tojson"] = as_json
    made.globals["raise_exception"] = fail
    made.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    return made
