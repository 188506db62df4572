"""A folder of DICOM studies: one line for each series, with its middle image or several evenly spaced ones.

Of the header nothing goes into the prompt. `context` names patient and study, `metadata` what a report needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.intake.line import Item, Options, Problem, Unfit, shown_name, spread
from gateway.intake.making import Picture, gathered, line, picture
from gateway.intake.places import read_regular
from gateway.intake.questions import Question, pick
from gateway.intake.scan import Head, Scan, Series


def pictures(folder: Path, paths: tuple[str, ...], options: Options) -> Iterator[Picture]:
    """Read the images of one series that go into a line, one at a time.

    Raises:
        Unfit: one can not be read, or the gateway would refuse it.
    """
    for place in spread(len(paths), options.images):
        raw = read_regular(folder / paths[place], paths[place], options.limits.dicom)
        yield picture(raw, paths[place], options)


def patient_of(number: str, issuer: str, options: Options) -> str | None:
    """Give a patient's number as `context` says it: with who issued it, where that is known: ``HOSPITAL|12345``."""
    if not number:
        return None
    return f"{issuer}|{number}" if issuer and not options.bare_patient else number


def told_of(head: Head) -> dict[str, str | None]:
    """Give what a report needs to know of a series."""
    return {
        "source": "dicom",
        "modality": head.modality,
        "study_uid": head.study,
        "series_uid": head.series,
        "accession": head.accession,
        "patient_issuer": head.issuer if head.patient else None,
    }


def lines(folder: Path, found: Scan, rules: tuple[Question, ...], options: Options) -> Iterator[Item]:
    """Give the lines of a folder's series, in their order; then what of the folder made none."""
    for one in found.series:
        where = f"series {one.head.series}"
        try:
            yield _line(folder, one, rules, options)
        except Unfit as exc:
            yield Problem(where=where, why=str(exc))
    yield from found.problems
    yield from found.skipped


def _line(folder: Path, one: Series, rules: tuple[Question, ...], options: Options) -> Item:
    head = one.head
    if one.fault:
        raise Unfit(one.fault)
    rule = pick(rules, head.modality, head.description)
    if rule is None:
        raise Unfit(
            f"no question fits the modality {shown_name(head.modality)} and the description "
            f"{shown_name(head.description)}; add a rule, or one without conditions as the last"
        )
    own = msgspec.structs.replace(options, images=rule.images or options.images, task=rule.task or options.task)
    return line(
        f"series-{head.series}",
        rule.question,
        gathered(pictures(folder, one.paths(), own), own),
        own,
        said={
            "patient": patient_of(head.patient, head.issuer, options),
            "study": head.accession or head.study,
        },
        told=told_of(head),
    )
