"""What stages find: in a request before any model sees it, and in an answer before it leaves."""

from __future__ import annotations

from msgspec import Struct

from gateway.values.request import Text


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


class Window(Struct, frozen=True, kw_only=True):
    """How much of a growing answer an auditor has to see at once, in characters.

    `characters` is the longest stretch that may decide on a finding: text is held back until so much has come after it.
    `overlap` is how much of the text before, which may have left already, is shown again; at least `characters` are.
    """

    characters: int
    overlap: int = 0
