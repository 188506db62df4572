"""Deep checks of what stages return: constructors of values check no types, and a plugin's author may make any mistake.

Each function gives None where the value is good, else a short code that may stand in a record: ``nothing`` for None,
``nonsense:type`` for another type than promised, ``nonsense:<field>`` for a field that is wrong. Types are compared
exactly and not by `isinstance`: a subclass could carry content into the record, and NumPy's scalars can not be encoded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeGuard, get_args, get_type_hints

from gateway.values import (
    Budget,
    Choice,
    Completion,
    Demonstration,
    Finding,
    Image,
    Modality,
    Score,
    Screening,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
)

CODE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+:-]{0,63}$"
"""What a label, view, note, kind or demonstration's id looks like: short, and unable to carry a sentence."""

_CODE = re.compile(CODE_PATTERN.strip("^$"))
_MODEL_MAX = 256  # characters; hub ids and file names are shorter
_MODALITIES = frozenset(get_args(Modality))
_REASONS = frozenset(get_args(get_type_hints(Choice)["finish_reason"]))


def is_code(value: object) -> TypeGuard[str]:
    """Tell whether `value` is a short code (`CODE_PATTERN`)."""
    return type(value) is str and _CODE.fullmatch(value) is not None


def is_share(value: object) -> TypeGuard[float]:
    """Tell whether `value` is a finite number in 0..1; True and False are no numbers."""
    return (type(value) is float or type(value) is int) and math.isfinite(value) and 0.0 <= value <= 1.0


def is_text(value: object) -> TypeGuard[str]:
    """Tell whether `value` is a string that can be written as UTF-8: an unpaired surrogate can not."""
    if type(value) is not str:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _is_modality(value: object) -> bool:
    return type(value) is str and value in _MODALITIES


def _all(value: object, kind: type) -> TypeGuard[tuple[Any, ...]]:
    return type(value) is tuple and all(type(item) is kind for item in value)


def screening_problem(value: object, part_ids: Collection[str], image_ids: Collection[str]) -> str | None:
    """Check what a pre-screener returned for a request with these parts.

    `inspected` and `part` must name parts of the request (`part` may also name a found text); the id of a found text is
    an image's id, ``#`` and a suffix, new and given once.
    """
    if value is None:
        return "nothing"
    if type(value) is not Screening:
        return "nonsense:type"
    if not is_share(value.risk):
        return "nonsense:risk"
    if not _all(value.inspected, str) or any(part not in part_ids for part in value.inspected):
        return "nonsense:inspected"
    found: set[str] = set()
    if not _all(value.found, Text):
        return "nonsense:found"
    for text in value.found:
        if not is_text(text.id) or not is_text(text.text) or text.id in part_ids or text.id in found:
            return "nonsense:found"
        image, mark, suffix = text.id.rpartition("#")
        if not mark or image not in image_ids or not is_code(suffix):
            return "nonsense:found"
        found.add(text.id)
    if not _all(value.scores, Score) or not all(is_code(score.label) for score in value.scores):
        return "nonsense:label"
    if not all(is_share(score.value) for score in value.scores):
        return "nonsense:score"
    if not _all(value.findings, Finding) or not all(is_code(item.kind) for item in value.findings):
        return "nonsense:findings"
    for item in value.findings:
        known = type(item.part) is str and (item.part in part_ids or item.part in found)
        if not known or not is_share(item.score) or not (item.label is None or is_code(item.label)):
            return "nonsense:findings"
        if item.start is not None or item.end is not None or item.replacement is not None:
            return "nonsense:findings"  # spans and replacements are an auditor's: a request is not rewritten
    if value.clinical is not None and not is_share(value.clinical):
        return "nonsense:clinical"
    if value.part is not None and not (type(value.part) is str and (value.part in part_ids or value.part in found)):
        return "nonsense:part"
    if value.view is not None and not is_code(value.view):
        return "nonsense:view"
    if not _all(value.notes, str) or not all(map(is_code, value.notes)):
        return "nonsense:notes"
    return None


def _image_ok(value: object) -> bool:
    return (
        type(value) is Image
        and is_text(value.id)
        and type(value.data) is bytes
        and type(value.media_type) is str
        and value.media_type in ("image/png", "image/jpeg")
        and type(value.width) is int
        and type(value.height) is int
        and min(value.width, value.height) > 0
        and is_text(value.digest)
        and (value.modality is None or _is_modality(value.modality))
        and _all(value.texts, Text)
        and all(is_text(text.id) and is_text(text.text) for text in value.texts)
    )


def demonstrations_problem(value: object, budget: Budget) -> str | None:
    """Check what an injector returned under `budget`.

    The number that refuses may differ from the share `budget.mix` by less than one demonstration. Tokens are counted as
    words, which are never more than tokens: a count above `budget.tokens` is surely over it.
    """
    if value is None:
        return "nothing"
    if not _all(value, Demonstration):
        return "nonsense:type"
    for demo in value:
        if not is_code(demo.id) or not is_code(demo.pair):
            return "nonsense:id"
        if not _is_modality(demo.modality):
            return "nonsense:modality"
        if not (is_text(demo.question) and is_text(demo.answer) and demo.question.strip() and demo.answer.strip()):
            return "nonsense:text"
        if type(demo.refuses) is not bool:
            return "nonsense:refuses"
        if demo.image is not None and not _image_ok(demo.image):
            return "nonsense:image"
    if len({demo.id for demo in value}) < len(value):
        return "nonsense:id"
    if len(value) > budget.demonstrations:
        return "nonsense:count"
    if abs(sum(demo.refuses for demo in value) - budget.mix * len(value)) >= 1.0 - 1e-9:
        return "nonsense:mix"
    if budget.images is not None and sum(demo.image is not None for demo in value) > budget.images:
        return "nonsense:images"
    words = sum(len(demo.question.split()) + len(demo.answer.split()) for demo in value)
    if budget.tokens is not None and words > budget.tokens:
        return "nonsense:tokens"
    return None


def _is_name(value: object) -> bool:
    return is_text(value) and value.isprintable() and 0 < len(value) <= _MODEL_MAX


def completion_problem(value: object, n: int) -> str | None:
    """Check what a backend returned: `n` choices in order; ids of texts begin with ``choices[i].`` and stand once."""
    if value is None:
        return "nothing"
    if type(value) is not Completion:
        return "nonsense:type"
    if not _is_name(value.model):
        return "nonsense:model"
    if value.revision is not None and not _is_name(value.revision):
        return "nonsense:revision"
    if not _all(value.choices, Choice) or len(value.choices) != n:
        return "nonsense:choices"
    for place, choice in enumerate(value.choices):
        if type(choice.index) is not int or choice.index != place:
            return "nonsense:choices"
        if type(choice.finish_reason) is not str or choice.finish_reason not in _REASONS:
            return "nonsense:finish_reason"
        if not _all(choice.tool_calls, ToolCall) or not all(is_text(call.id) for call in choice.tool_calls):
            return "nonsense:tool_calls"
        texts = choice.texts()
        if not _all(texts, Text) or not all(is_text(text.id) and is_text(text.text) for text in texts):
            return "nonsense:text"
        if choice.text.id != f"choices[{place}].content":
            return "nonsense:id"
        ids = [text.id for text in texts]
        if len(set(ids)) < len(ids) or not all(text.startswith(f"choices[{place}].") for text in ids):
            return "nonsense:id"
        if choice.logprobs is not None and not _logprobs_ok(choice):
            return "nonsense:logprobs"
    if type(value.usage) is not Usage:
        return "nonsense:usage"
    if not (_is_count(value.usage.prompt_tokens) and _is_count(value.usage.completion_tokens)):
        return "nonsense:usage"
    if type(value.blind) is not bool:
        return "nonsense:blind"
    return None


def _logprobs_ok(choice: Choice) -> bool:
    """Tell whether the tokens spell the text that is audited, and every logarithm is a number."""
    if not _all(choice.logprobs, TokenLogprob):
        return False
    pairs = [pair for place in choice.logprobs for pair in ((place.token, place.logprob), *place.top)]
    good = all(type(p) is tuple and len(p) == 2 and is_text(p[0]) and _is_logprob(p[1]) for p in pairs)
    return good and "".join(place.token for place in choice.logprobs) == choice.text.text


def _is_logprob(value: object) -> bool:
    return (type(value) is float or type(value) is int) and not math.isnan(value) and value <= 0


def findings_problem(value: object, texts: Mapping[str, str]) -> str | None:
    """Check what an auditor returned for an answer whose texts are `texts`, by id.

    A span has both ends or none, is not empty, and lies within its text.
    """
    if value is None:
        return "nothing"
    if not _all(value, Finding):
        return "nonsense:type"
    for finding in value:
        if not is_code(finding.kind):
            return "nonsense:kind"
        if not is_share(finding.score):
            return "nonsense:score"
        if type(finding.part) is not str or finding.part not in texts:
            return "nonsense:part"
        if finding.label is not None and not is_code(finding.label):
            return "nonsense:label"
        if finding.replacement is not None and not is_text(finding.replacement):
            return "nonsense:replacement"
        start, end = finding.start, finding.end
        if start is None and end is None:
            continue
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(texts[finding.part]):
            return "nonsense:span"
    return None
