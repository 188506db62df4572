"""The stops of the fault tour: what each upstream does, and what the caller is to hear and the record is to say."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.testing.upstream.draft import tokens_of

Mode = Literal["whole", "held", "windowed"]
MODES: tuple[Mode, ...] = ("whole", "held", "windowed")
"""Not streamed; a stream that is held; a stream that leaves window by window. Each has a department of its name."""

QUESTION = "Which imaging plane is shown in this brain MRI?"
NUMBERS = re.compile(r"84629\d\d\d")
"""What must never leave: each sentence of the model holds one, so text that no auditor saw is known by it."""

SAID = " ".join(f"Findings for MRN: {84629100 + n} show no fracture of rib {n}." for n in range(1, 25))
"""What the model says: some 1,500 characters, of which the audit holds 256 back."""


HOLD_BACK = 256
"""How many characters the auditors of the policy hold back."""


def redacted(text: str) -> str:
    return NUMBERS.sub("[REDACTED:MRN]", text)


@dataclass(frozen=True)
class Case:
    """A stop. `status`, `code` and `cause` are what the caller hears and the record says, the last
    as a pattern; 200 where all is well.

    `halfway`: text has left of a windowed stream before the fault, so that it ends with an error in its place; `sent`
    is the share of the text that the upstream has written by then, None where there is no end of it. `windowed` gives
    the cause that differs in such a stream, or 200 where it is whole all the same. The stream is paced by `rate`, so
    that its pieces do not all come at once.
    """

    name: str
    model: str = ""
    status: int = 200
    cause: str = ""
    code: str = "model_unavailable"
    said: str = SAID
    halfway: bool = False
    sent: float | None = 0.5
    windowed: str | int | None = None
    rate: float | None = None
    deadline: str = "45s"
    config: dict[str, float] = field(default_factory=dict)
    tools: int = 0

    @property
    def personality(self) -> str:
        return self.model or self.name

    def whole(self, mode: Mode) -> bool:
        """Tell whether the answer comes whole."""
        return self.status == 200 or (mode == "windowed" and self.windowed == 200)

    def broken_off(self, mode: Mode) -> bool:
        """Tell whether a part of the answer has left when the fault comes."""
        return mode == "windowed" and self.halfway and not self.whole(mode)

    def may_have_left(self) -> int | None:
        """Give how many characters may have left before the fault: all that has what is held back behind it."""
        if self.sent is None:
            return None
        tokens = tokens_of(self.said)
        written = "".join(tokens[: int(len(tokens) * self.sent) + 2])
        return len(redacted(written[:-HOLD_BACK]))

    def cause_in(self, mode: Mode) -> str:
        return self.windowed if mode == "windowed" and isinstance(self.windowed, str) else self.cause


def away(name: str, error: str, **fields: Any) -> Case:
    """The model fails: 502."""
    return Case(name, status=502, cause=f"raised:Upstream{error}", **fields)


def late(name: str, cause: str = "raised:UpstreamTimeout", **fields: Any) -> Case:
    """The model is late: 504."""
    return Case(name, status=504, cause=cause, **fields)


def halfway(name: str, error: str, **fields: Any) -> Case:
    """The model fails when a part of its answer has left."""
    return away(name, error, halfway=True, rate=250, **fields)


CASES = (
    Case("plain", rate=250),
    Case("say", "say:Sagittal.", said="Sagittal."),
    Case("long", "long:3000", said=""),
    Case("echo", said=QUESTION),
    Case("images", said="0 images, 0 bytes"),
    Case("tokens", "tokens:400"),
    Case("slow-first", "slow-first:0.3"),
    Case("slow-headers", "slow-headers:0.02"),
    Case("tool-call", tools=1),
    Case("two-tools", tools=2),
    Case("double-done"),
    Case("after-done"),
    Case("no-done"),
    Case("ping"),
    Case("crlf"),
    Case("split-utf8", said=SAID + " Größe 5 µm bei 37 °C — 肺野清晰 🫁"),
    Case("busy-once"),
    Case("error-503-once"),
    Case("busy", status=429, cause="raised:UpstreamBusy", code="model_busy"),
    Case("context-length", status=400, cause="raised:UpstreamTooLong", code="context_length_exceeded"),
    Case("context-length-vllm", "context-length:vllm", 400, "raised:UpstreamTooLong", "context_length_exceeded"),
    Case("refused", status=400, cause="raised:UpstreamRefused", code="model_refused_request"),
    late("slow-first-for-ever", model="slow-first:600", config={"headers_timeout": 1}),
    late("slow-headers-for-ever", model="slow-headers:600", config={"headers_timeout": 1}),
    late("slow-loris", "deadline", deadline="3s"),
    late("stall", config={"body_timeout": 1.5}, halfway=True, rate=250),
    away("down", "Unreachable"),
    away("cut-before", "Unreachable"),
    away("garbage", "Unreachable"),
    away("garbage-body", "Nonsense"),
    away("html", "Nonsense"),
    away("html-502", "Status"),
    away("error-500", "Status"),
    away("endless-line", "TooLarge"),
    away("wrong-length-long", "Unreachable", windowed=200),
    halfway("wrong-length-short", "(Nonsense|Unreachable)", windowed="raised:UpstreamCut"),
    halfway("cut-mid-stream", "Unreachable", windowed="raised:UpstreamCut"),
    halfway("reset-mid-stream", "Unreachable", windowed="raised:UpstreamCut"),
    halfway("malformed-chunk", "Nonsense"),
    halfway("invalid-utf8", "Nonsense"),
    halfway("error-in-stream", "Nonsense", windowed="raised:UpstreamStatus"),
    halfway("no-finish", "Nonsense", windowed="raised:UpstreamCut", sent=1),
    away("endless", "TooLarge", halfway=True, sent=None, windowed="nonsense:too-long|raised:UpstreamTooLarge|deadline"),
    late("endless-slowly", "deadline", model="endless", deadline="3s", halfway=True, sent=None, rate=20),
)


def policy_models(urls: dict[tuple[str, Mode], str], mode: Mode) -> str:
    """Write the `models` of a department's policy: one for each stop."""
    models = {}
    for case in CASES:
        config = {"base_url": urls[case.name, mode], "model": case.personality, **case.config}
        models[case.name] = {"stage": "openai", "deadline": case.deadline, "config": config}
    return json.dumps(models)


@dataclass(frozen=True)
class Heard:
    """What a caller heard. `text` is the text of the answer, `events` are those of a stream, ``[DONE]`` as a string."""

    status: int
    headers: dict[str, str]
    raw: str
    streamed: bool

    @property
    def decision(self) -> str:
        return self.headers["x-gateway-decision"]

    @property
    def events(self) -> list[Any]:
        lines = [line.removeprefix("data: ") for line in self.raw.split("\n") if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    def _choices(self) -> list[Any]:
        if not self.raw.startswith("data: "):
            return [choice | {"delta": choice["message"]} for choice in self.body.get("choices", ())]
        return [c for event in self.events if event != "[DONE]" for c in event.get("choices", ())]

    @property
    def text(self) -> str:
        return "".join(choice["delta"].get("content") or "" for choice in self._choices())

    @property
    def finish(self) -> list[str]:
        return [choice["finish_reason"] for choice in self._choices() if choice["finish_reason"]]

    @property
    def arguments(self) -> dict[int, str]:
        """The arguments of each tool call, by its number."""
        found: dict[int, str] = {}
        for choice in self._choices():
            for place, call in enumerate(choice["delta"].get("tool_calls") or ()):
                number = call.get("index", place)
                found[number] = found.get(number, "") + call["function"].get("arguments", "")
        return found
