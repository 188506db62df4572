"""`POST /v1/chat/completions`: from a JSON object to a `Request`.

Every field of the body is taken, accepted and left out, or refused; none is passed on unread. The tables here are the
list, and the documentation quotes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from msgspec import Struct

from gateway.errors import NotFound, Unavailable
from gateway.records.context import NUMBER_LONGEST
from gateway.values import Image, Request
from gateway.wire.decode import Decoder
from gateway.wire.fields import Body, bad, flag, known, members, wrong
from gateway.wire.ids import new_decision_id
from gateway.wire.messages import MAX_TEXT, Draft, Link, characters, read_messages
from gateway.wire.sampling import FIELDS as SAMPLING
from gateway.wire.sampling import read_sampling
from gateway.wire.tools import read_parallel, read_response_format, read_tools
from gateway.wire.words import kind, quote

PATH = "/v1/chat/completions"

AUTO = "auto"
"""The model name that stands for a department's default."""

TAKEN = (
    "messages",
    "model",
    "parallel_tool_calls",
    "response_format",
    "stream",
    "stream_options",
    "tool_choice",
    "tools",
    *SAMPLING,
)
"""Fields that have an effect."""

LEFT_OUT: Mapping[str, type] = MappingProxyType(
    {
        "metadata": dict,
        "prompt_cache_key": str,
        "prompt_cache_retention": str,
        "safety_identifier": str,
        "service_tier": str,
        "store": bool,
        "user": str,
    }
)
"""Fields that are accepted, checked for their type, and never passed on. Of `USER` a keyed pseudonym is kept."""

USER = ("safety_identifier", "user")
"""Fields that name the user, the one that counts first."""

_STEERS = "it could steer a model past its defence"
_OWN = "the conversation is laid out by the gateway alone"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "add_generation_prompt": _OWN,
        "allowed_token_ids": _STEERS,
        "audio": "answers are text",
        "bad_words": _STEERS,
        "chat_template": _OWN,
        "chat_template_kwargs": _OWN,
        "continue_final_message": "a model must not go on with an answer that its caller began",
        "documents": "put what the model shall read into `messages`",
        "echo": _OWN,
        "extra_body": "put its fields into the body itself",
        "function_call": "it is deprecated, use `tool_choice`",
        "functions": "it is deprecated, use `tools`",
        "ignore_eos": _STEERS,
        "logit_bias": _STEERS,
        "min_tokens": _STEERS,
        "modalities": "answers are text",
        "prediction": _STEERS,
        "prompt_logprobs": "it would give away what stands before the question",
        "reasoning_effort": "it is not passed on to models",
        "structured_outputs": "use `response_format`",
        "verbosity": "it is not passed on to models",
        "web_search_options": "no model here reaches outside",
    }
)
"""Fields that are refused unless they are null or say what holds anyway (`HARMLESS`), and why."""

HARMLESS: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "add_generation_prompt": (True,),
        "continue_final_message": (False,),
        "echo": (False,),
        "ignore_eos": (False,),
        "logit_bias": ({},),
        "min_tokens": (0,),
        "modalities": (["text"],),
    }
)
"""The values with which a refused field passes, since they change nothing."""


class Asked(Struct, frozen=True, kw_only=True):
    """A chat request before its images are decoded. `bare` is the request without its turns.

    `user` is what the caller calls its user, None where that is not said.
    """

    bare: Request
    drafts: tuple[Draft, ...]
    include_usage: bool
    user: str | None = None

    def links(self) -> tuple[Link, ...]:
        """Give the images to decode, in reading order."""
        return tuple(link for draft in self.drafts for link in draft.links())

    def request(self, images: dict[str, Image]) -> Request:
        """Give the whole request, with the decoded `images` by id."""
        return msgspec.structs.replace(self.bare, turns=tuple(draft.turn(images) for draft in self.drafts))


def _same(value: object, harmless: object) -> bool:
    return type(value) is type(harmless) and value == harmless


def _check_fields(body: Body) -> None:
    for name, value in body.items():
        if name in REFUSED or name.startswith("guided_"):
            if value is None or any(_same(value, harmless) for harmless in HARMLESS.get(name, ())):
                continue
            why = REFUSED.get(name, "use `response_format`")
            bad(name[:64], f"{quote(name)} is not taken: {why}; leave it out", "unsupported_parameter")
        elif name in LEFT_OUT and value is not None and not isinstance(value, LEFT_OUT[name]):
            wanted = {dict: "an object", str: "a string", bool: "true or false"}[LEFT_OUT[name]]
            bad(name, f"`{name}` is {kind(value)}; give {wanted}, or leave it out", "invalid_type")
    known({name: 0 for name in body if name not in REFUSED and not name.startswith("guided_")}, (*TAKEN, *LEFT_OUT), "")


def _model(body: Body, models: tuple[str, ...]) -> str:
    name = body.get("model")
    available = ", ".join(f"`{model}`" for model in (*models, AUTO))
    if name is None:
        bad("model", f"`model` is missing; give one of {available}", "missing_parameter")
    if not isinstance(name, str):
        wrong("model", name, f"one of {available}")
    if name in models:
        return name
    if name == AUTO:
        return models[0]
    raise NotFound(
        f"there is no model {quote(name)} for this key; give one of {available}", code="model_not_found", param="model"
    )


def _user(body: Body) -> str | None:
    for name in USER:
        value: str | None = body.get(name)
        if value:
            if len(value) > NUMBER_LONGEST or not value.isprintable():
                bad(name, f"`{name}` is too long or not printable; give at most {NUMBER_LONGEST} printable characters")
            return value
    return None


def _include_usage(body: Body, *, stream: bool) -> bool:
    value = body.get("stream_options")
    if value is None:
        return False
    options = members(value, "stream_options", "an object with `include_usage`")
    known(options, ("include_usage", "include_obfuscation"), "stream_options")
    if not stream:
        bad("stream_options", "`stream_options` is given without `stream: true`; give both or none")
    flag(options, "include_obfuscation", "stream_options.include_obfuscation")
    return flag(options, "include_usage", "stream_options.include_usage")


def read_chat(body: Body, *, id: str, department: str, models: tuple[str, ...]) -> Asked:
    """Read the body of a chat request for the decision `id`; `models` are those of the department, the default first.

    Raises InvalidRequest with the field at fault, and NotFound for an unknown model.
    """
    _check_fields(body)
    model = _model(body, models)
    drafts = read_messages(body.get("messages"))
    tools, tool_choice = read_tools(body)
    response_format = read_response_format(body)
    size = characters(drafts) + sum(len(text.text) for text in (tools, response_format) if text is not None)
    if size > MAX_TEXT:
        bad("messages", f"there are {size} characters of text; send at most {MAX_TEXT}", "context_length_exceeded")
    stream = flag(body, "stream")
    bare = Request(
        id=id,
        department=department,
        model=model,
        turns=(),
        sampling=read_sampling(body),
        tools=tools,
        tool_choice=tool_choice,
        response_format=response_format,
        parallel_tool_calls=read_parallel(body, tools),
        stream=stream,
    )
    include_usage = _include_usage(body, stream=stream)
    return Asked(bare=bare, drafts=drafts, include_usage=include_usage, user=_user(body))


async def chat_request(body: Body, decoder: Decoder, department: str, models: tuple[str, ...]) -> tuple[Request, Asked]:
    """Make the request of `body`, with a decision id of its own and its images decoded.

    Raises InvalidRequest with the field at fault, NotFound for an unknown model, and Unavailable without any.
    """
    if not models:
        raise Unavailable("the department's backend serves no model; ask the gateway's operator")
    asked = read_chat(body, id=new_decision_id(), department=department, models=models)
    return asked.request(await decoder.images(asked.links())), asked
