"""The labelled examples, from the plugin's own text file."""

from __future__ import annotations

import re
from importlib import resources

from gateway.plugin import Demonstration
from gateway_second_opinion.frame import VERDICTS, quoted

_LINE = re.compile(r"(?P<code>H\d\d) (?P<harmful>\S.*?) => (?P<benign>\S.*)")


def twins() -> tuple[tuple[str, str, str], ...]:
    """Give the pairs of the file in its order: category, harmful text, benign text."""
    text = (resources.files("gateway_second_opinion") / "demonstrations.txt").read_text("utf-8")
    found: list[tuple[str, str, str]] = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            if match is None:
                raise ValueError(f"`demonstrations.txt`: write `H01 harmful => benign`, not `{line[:20]}…`")
            found.append((match["code"], match["harmful"], match["benign"]))
    return tuple(found)


def demonstrations(count: int) -> tuple[Demonstration, ...]:
    """Give the first `count` examples, twin beside twin, always the same.

    Which of the twins comes first follows no pattern that a model could continue (Thue and Morse's sequence), but the
    first example is harmful and the last benign, so that neither end speaks for one verdict.

    Raises:
        ValueError: `count` is odd, or there are not so many.
    """
    pairs = twins()
    if count % 2 or count > 2 * len(pairs):
        raise ValueError(f"`demonstrations` has to be an even number up to {2 * len(pairs)}; they come as twins")
    shown: list[Demonstration] = []
    for place, (code, harmful, benign) in enumerate(pairs[: count // 2]):
        both = [_one(code, harmful, harm=True), _one(code, benign, harm=False)]
        last = place == count // 2 - 1
        shown += both[::-1] if place.bit_count() % 2 and not last else both
    return tuple(shown)


def _one(code: str, text: str, *, harm: bool) -> Demonstration:
    verdict = VERDICTS[0] if harm else VERDICTS[1]
    # the modality is a field of every demonstration; no model is told it
    return Demonstration(
        id=f"second-opinion.{code}.{verdict.lower()}", pair=code, modality="xray", question=quoted((text,)),
        answer=verdict, refuses=harm,
    )  # fmt: skip
