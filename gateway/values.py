"""The frozen values of a request at each step of its way.

Each step makes a new value; none is changed in place. Every piece of text or image that a model could read is a
*part* with an `id` that names its place in the request (``messages[2].content[0]``, ``messages[2].content[1]#ocr``,
``tools``), and coverage is accounted by these ids: a part is inspected by a stage, or it is not.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from msgspec import Struct

Role = Literal["system", "user", "assistant", "tool"]
"""Who speaks in a turn. OpenAI's ``developer`` is read as ``system``."""

Modality = Literal[
    "xray", "ct", "mri", "ultrasound", "fundus", "oct", "dermoscopy", "endoscopy", "histopathology", "mammography"
]
"""The ten imaging modalities that the gateway knows."""


class Text(Struct, frozen=True, kw_only=True, tag="text"):
    """A piece of text that a model could read. `id` is its place in the request."""

    id: str
    text: str


class Image(Struct, frozen=True, kw_only=True, tag="image"):
    """An image after decoding, checking, stripping of metadata and re-encoding: the only bytes a model may see.

    `data` is a PNG or JPEG file (`media_type`), `width` and `height` are in pixels, `digest` is the SHA-256 of `data`
    in hex. `source` is the format it arrived in. For DICOM, `modality` comes from the Modality tag, `burned_in` from
    BurnedInAnnotation, `frames` counts the frames in the file and `frame` is the one shown (0-based), and `texts` are
    the free-text tags, which stages inspect and no model is given.
    """

    id: str
    data: bytes
    media_type: Literal["image/png", "image/jpeg"]
    width: int
    height: int
    digest: str
    source: Literal["png", "jpeg", "webp", "dicom"]
    modality: Modality | None = None
    burned_in: Literal["yes", "no", "unknown"] = "unknown"
    frames: int = 1
    frame: int = 0
    texts: tuple[Text, ...] = ()


Part = Text | Image


class ToolCall(Struct, frozen=True, kw_only=True):
    """A call of a tool by a model. `arguments` is JSON text, as the model wrote it."""

    id: str
    name: Text
    arguments: Text


class Turn(Struct, frozen=True, kw_only=True):
    """One message of a conversation. `tool_call_id` says which call a ``tool`` turn answers."""

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def all_parts(self) -> tuple[Part, ...]:
        """Give every part a model could read in this turn, the free-text tags of its images included."""
        found: list[Part] = []
        for part in self.parts:
            found.append(part)
            if isinstance(part, Image):
                found.extend(part.texts)
        for call in self.tool_calls:
            found += (call.name, call.arguments)
        return tuple(found)


class Sampling(Struct, frozen=True, kw_only=True):
    """How a model is asked to sample. None leaves the model's own default. `max_tokens` bounds the answer."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()


class Request(Struct, frozen=True, kw_only=True):
    """A request as it came over the wire, checked and typed.

    `id` is the decision's id. `tools`, `tool_choice` and `response_format` hold JSON text, because a model reads them
    too.
    """

    id: str
    department: str
    model: str
    turns: tuple[Turn, ...]
    sampling: Sampling = Sampling()
    tools: Text | None = None
    tool_choice: Text | None = None
    response_format: Text | None = None
    stream: bool = False

    def parts(self) -> tuple[Part, ...]:
        """Give every part that a model could read, in reading order."""
        extra = tuple(t for t in (self.tools, self.tool_choice, self.response_format) if t is not None)
        return extra + tuple(part for turn in self.turns for part in turn.all_parts())

    def texts(self) -> tuple[Text, ...]:
        """Give the text parts, in reading order."""
        return tuple(part for part in self.parts() if isinstance(part, Text))

    def images(self) -> tuple[Image, ...]:
        """Give the images, in reading order."""
        return tuple(part for part in self.parts() if isinstance(part, Image))


class Score(Struct, frozen=True, kw_only=True):
    """A number that a stage gives to a label, for instance a harm category. `value` is in 0..1."""

    label: str
    value: float


class Finding(Struct, frozen=True, kw_only=True):
    """What a pre-screener found in a request, beside its risk, or an auditor in an answer.

    `kind` is a short code: ``jailbreak``, ``mismatch``, ``adversarial-noise`` or the plugin's own in a request;
    ``refusal``, ``harmful-compliance``, ``phi``, ``demonstration-leak`` or the plugin's own in an answer. `score` is
    in 0..1. `part` is the id of the text or image it was found in; `label` is a finer code, for instance the technique
    of a jailbreak. In an answer `start` and `end` are character offsets into the text (None: the whole text), and
    `replacement` is what a policy that redacts puts there.
    """

    kind: str
    score: float
    part: str
    start: int | None = None
    end: int | None = None
    label: str | None = None
    replacement: str | None = None


class Screening(Struct, frozen=True, kw_only=True):
    """What a pre-screener found.

    `risk` is the probability, in 0..1, that answering would knowingly help cause harm; 0 where the stage only finds
    text. `inspected` names the ids of the parts that were really looked at: what is not named counts as not
    inspected. `found` is text that was found inside images; the pipeline hands it to the other pre-screeners as if
    the user had typed it. `view` names the reading that gave the risk (``raw``, ``normalised``, ``base64`` …) and
    `part` the part that did. `findings` are what else was found, for instance the technique of a jailbreak, an image
    of another modality than stated, or adversarial noise; the policy says what follows from them. `clinical` is the
    probability, in 0..1, that the request is about clinical work, None where the stage does not judge that. Labels,
    views and notes are short codes (lowercase letters, digits, ``.``, ``_``, ``-``), never content.
    """

    risk: float
    inspected: tuple[str, ...]
    scores: tuple[Score, ...] = ()
    found: tuple[Text, ...] = ()
    findings: tuple[Finding, ...] = ()
    clinical: float | None = None
    part: str | None = None
    view: str | None = None
    notes: tuple[str, ...] = ()


class Budget(Struct, frozen=True, kw_only=True):
    """What may be spent on demonstrations before a question.

    `demonstrations` is their number, `mix` the share of them that refuses (0..1), `tokens` and `images` are caps,
    None for no cap.
    """

    demonstrations: int
    mix: float
    tokens: int | None = None
    images: int | None = None


class Demonstration(Struct, frozen=True, kw_only=True):
    """A synthetic question with its answer, put before the user's question. `refuses` says whether the answer refuses.

    `pair` is shared by the harmful and the benign twin.
    """

    id: str
    pair: str
    modality: Modality
    question: str
    answer: str
    refuses: bool
    image: Image | None = None


Form = Literal["turns", "packed"]
"""How demonstrations are shown: as turns of a chat, or packed into the first message of the user."""


class Prompt(Struct, frozen=True, kw_only=True):
    """What a model is given: the request's turns with the demonstrations before them.

    `found` is the text that pre-screeners found inside images, judged like the user's own; a backend whose model sees
    no images tells them with it. `form` says how demonstrations are shown; `role` is a system prompt of the policy's
    that goes with them.
    """

    request: Request
    demonstrations: tuple[Demonstration, ...] = ()
    found: tuple[Text, ...] = ()
    form: Form = "turns"
    role: str | None = None

    def chat(self) -> tuple[Turn, ...]:
        """Give the turns in the order a model reads them: role, leading system turns, demonstrations, the rest.

        The caller's text never stands before or inside a demonstration, so it can not forge or close one. Packed, it
        stands in the same message after them, between two marks that nobody can know before the request is made.
        """
        if not self.demonstrations:
            return self.request.turns
        turns = self.request.turns
        lead = 0
        while lead < len(turns) and turns[lead].role == "system":
            lead += 1
        before = turns[:lead]
        if self.role is not None:
            before = (Turn(role="system", parts=(Text(id="demonstrations.role", text=self.role),)), *before)
        if self.form == "packed":
            return before + self._packed(turns[lead:])
        shown: list[Turn] = []
        for demo in self.demonstrations:
            asked = Text(id=f"demonstrations.{demo.id}.question", text=demo.question)
            shown.append(Turn(role="user", parts=(asked,) if demo.image is None else (demo.image, asked)))
            answer = Text(id=f"demonstrations.{demo.id}.answer", text=demo.answer)
            shown.append(Turn(role="assistant", parts=(answer,)))
        return before + tuple(shown) + turns[lead:]

    def _packed(self, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        """Put the demonstrations into the first of `turns`; a turn of its own where that is not the user's."""
        parts: list[Part] = [Text(id="demonstrations.open", text="Examples of questions and how they are answered.")]
        for number, demo in enumerate(self.demonstrations, 1):
            if demo.image is not None:
                parts.append(demo.image)
            text = f"Example {number}\nQuestion: {demo.question}\nAnswer: {demo.answer}"
            parts.append(Text(id=f"demonstrations.{demo.id}", text=text))
        mark = f"q-{hashlib.sha256(self.request.id.encode()).hexdigest()[:12]}"
        told = f"The examples end here. Answer in the same way what stands between the two marks {mark}.\n{mark}"
        parts.append(Text(id="demonstrations.mark", text=told))
        first, rest = (turns[0].parts, turns[1:]) if turns and turns[0].role == "user" else ((), turns)
        return (Turn(role="user", parts=(*parts, *first, Text(id="demonstrations.close", text=mark))), *rest)


class Choice(Struct, frozen=True, kw_only=True):
    """One answer of a model. `finish_reason` is OpenAI's."""

    index: int
    text: Text
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] = "stop"

    def texts(self) -> tuple[Text, ...]:
        """Give every text of this choice that would leave the gateway."""
        calls = tuple(t for call in self.tool_calls for t in (call.name, call.arguments))
        return (self.text, *calls)


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens read and written, demonstrations included."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Completion(Struct, frozen=True, kw_only=True):
    """What a model answered.

    `model` is the name the model gives itself; `blind` says that it has not seen the images. `revision` names the
    weights or the set-up behind the name (such as OpenAI's ``system_fingerprint``), None where nothing tells.
    """

    model: str
    choices: tuple[Choice, ...]
    usage: Usage = Usage()
    blind: bool = False
    revision: str | None = None
