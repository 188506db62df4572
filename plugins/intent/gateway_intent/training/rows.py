"""Read the development files: which are trained on, which are held out whole, and what their labels mean here.

The folder is the caller's; none of its rows is part of the plugin. A row is ``{"id", "label", "category", "text", …}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from gateway_intent.training.generate import Example, split_of

TRAINED = ("medsafetybench", "catqa", "vqa_rad", "medquad_sample", "chatdoctor_sample")
"""Files of which a part is trained on; the rest of each is held out by row, or by category for MedSafetyBench."""
HELD_OUT = ("xstest", "donotanswer", "slake_en", "vqa_med_2021")
"""Files of which no row is trained on."""
HELD_CATEGORIES = ("AMA-3", "AMA-9")
"""Whole principles of MedSafetyBench that are held out."""

# By the project's rule a request is harmful if fulfilling it would knowingly help cause harm. These are labelled
# harmful upstream because a general chat model should be careful with them, which is another question.
_NOT_HARM = (
    "Tailored Financial Advice", "Political Campaigning", "human_chatbox", "information_hazard", "misinformation_harms",
    "discrimination_exclusion_toxicity_hateful_offensive", "Adult Content / Adult-themed humor",
)  # fmt: skip
_HARM = {
    "AMA-4": "H03",
    "Physical Harm / Self-harm": "H06",
}


_CLINICAL = {
    "medsafetybench": True, "vqa_rad": True, "medquad_sample": True, "chatdoctor_sample": True, "slake_en": True,
    "vqa_med_2021": True, "catqa": False,
}  # fmt: skip
"""Whether a source is about clinical work; XSTest and Do-Not-Answer hold both kinds."""


def read(path: Path) -> list[dict[str, Any]]:
    """Read one file of rows.

    Raises:
        ValueError: the file is missing or a line of it is no row.
    """
    try:
        lines = path.read_bytes().splitlines()
        rows: list[dict[str, Any]] = [msgspec.json.decode(line) for line in lines if line.strip()]
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"`{path}` is not a readable file of rows: see the data README for the format") from error
    return rows


def counted(row: dict[str, Any]) -> bool:
    """Say whether the row's label holds by the project's rule."""
    return bool(row["text"].strip()) and not (row["label"] == "harmful" and row["category"].startswith(_NOT_HARM))


def split_of_row(source: str, row: dict[str, Any]) -> str:
    """Say on which side of the split a row stands."""
    if source in HELD_OUT or row["category"].startswith(HELD_CATEGORIES):
        return "test"
    return split_of(row["text"].lower().strip(), calibrate=10, test=15)


def _harm(row: dict[str, Any], source: str) -> str | None:
    for start, label in _HARM.items():
        if row["category"].startswith(start):
            return label
    return None if source == "medsafetybench" else "H17"


def load(folder: Path, sources: tuple[str, ...] = TRAINED) -> Iterator[Example]:
    """Give the rows of `sources` that count, each text once, with safe refusals as benign texts of an assistant."""
    for source in sources:
        seen: set[str] = set()
        for row in read(folder / f"{source}.jsonl"):
            text = row["text"].strip()
            if not counted(row) or text.lower() in seen:
                continue
            seen.add(text.lower())
            split = split_of_row(source, row)
            harmful = row["label"] == "harmful"
            label = _harm(row, source) if harmful else "benign"
            yield Example(
                text=text, harmful=harmful, label=label, split=split, source=source, clinical=_CLINICAL.get(source),
                technique="none",
            )  # fmt: skip
            safe = row.get("safe_response")
            if safe and len(seen) % 3 == 0:
                yield Example(
                    text=safe[:500], harmful=False, label="answer", split=split, source=f"{source}.answers",
                    technique="none",
                )  # fmt: skip


def probes() -> Iterator[Example]:
    """Give the twins and the alarming questions in ``probes.txt``, which are only measured with."""
    content = resources.files(__package__).joinpath("probes.txt").read_text("utf-8")
    for number, line in enumerate(content.splitlines()):
        if not line or line.startswith("#"):
            continue
        label, _, rest = line.partition(": ")
        harmful, _, benign = rest.partition("=> ")
        pair = f"probes.{number}" if harmful else None
        if harmful:
            text = harmful.strip()
            yield Example(text=text, harmful=True, label=label, split="test", source="probes", pair=pair)
        task = "benign" if harmful else label
        yield Example(text=benign.strip(), harmful=False, label=task, split="test", source="probes", pair=pair)
