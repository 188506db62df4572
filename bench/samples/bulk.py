"""Millions of records, of the kind a year of a hospital leaves, made fast: canonical bytes with their values put in.

A record is made once for each combination of what records are filtered by; its bytes are then cut at what differs from
one record to the next (id, time, person, patient, study, risk), and rows are these pieces joined. `checked` parses a
sample. Times rise with a jitter, so that records are nearly, not wholly, in time order.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import random
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from msgspec.structs import replace

from bench.samples import outcomes
from bench.samples.hospital import (
    DEPARTMENTS,
    KEYS,
    MODALITIES,
    MODELS,
    PERSONS,
    PURPOSES,
    TASKS,
    WORDS,
    Combination,
    Habit,
)
from gateway.records import AccessV1, CallerV1, ContextV1, DecisionV1, Digester, Record, canonical, parse, record_of
from gateway.records.record import ImageV1, PolicyV1
from gateway.records.shapes import AdmitV1, CompletedV1, RefuseV1, ReleaseV1, WithholdV1
from gateway.store.search_traits import Traits, traits_of
from gateway.store.writer import leaf_of

SECRET = bytes(range(32))
START = dt.datetime(2025, 11, 1, tzinfo=dt.UTC)
YEAR = dt.timedelta(days=365)

_ID, _AT, _PERSON = "dec_" + "z" * 26, dt.datetime(1999, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC), "person-to-put-in"
_PATIENT, _STUDY, _SUBJECT, _RISK = "a1" * 32, "b2" * 32, "dec_" + "y" * 26, 0.123456789
_MARKS = (_ID, "1999-01-02T03:04:05.678901Z", _PERSON, _PATIENT, _STUDY, _SUBJECT, "0.123456789")
_WORD_WEIGHTS = list(accumulate(WORDS.values()))


class Template(NamedTuple):
    """A combination. `pieces` are bytes and, between them, the numbers of what is put in."""

    record: Record
    pieces: tuple[bytes, ...]
    places: tuple[int, ...]
    traits: Traits
    department: str
    outcome: str | None
    kind: str
    band: int | None


class Made(NamedTuple):
    """A record as the log holds it, with the number of its template and what was put in."""

    id: str
    at: dt.datetime
    leaf: bytes
    body: bytes
    template: int
    person: str | None
    patient: str | None
    study: str | None
    risk: float | None
    subject: str | None


class Bulk:
    """Makes the same records for the same seed. `templates` grows while rows are made."""

    def __init__(self, seed: int = 1, *, start: dt.datetime = START, span: dt.timedelta = YEAR) -> None:
        self._random = random.Random(seed)
        self._start, self._span = start, span
        digester = Digester(SECRET)
        self._bases = {
            "refused": _lean(record_of(outcomes.refused(), digester)),
            "withheld": _lean(record_of(outcomes.withheld("a question", "an answer"), digester)),
            "released": _lean(record_of(outcomes.released(), digester)),
        }
        self._numbers: dict[Combination, int] = {}
        self.templates: list[Template] = []
        self._keys = [(d, f"{d[:4]}{k:08x}") for d in DEPARTMENTS for k in range(KEYS)]
        self._key_weights = list(accumulate(1 / (1 + i % KEYS) * (12 - i // KEYS) for i in range(len(self._keys))))
        self._habits = [self._habit(i) for i in range(len(self._keys))]

    def rows(self, number: int, *, chunk: int = 5000) -> Iterator[list[Made]]:
        """Give `number` records over the span, oldest first, in lists."""
        step = self._span / number
        for first in range(0, number, chunk):
            count = min(chunk, number - first)
            yield self._chunk(self._start + step * first, step, count, first / number)

    def _habit(self, number: int) -> Habit:
        rng = self._random
        modalities, models = rng.sample(MODALITIES, 2), rng.sample(MODELS, 2)
        return Habit(
            modalities=(*modalities, *modalities, modalities[0]),
            models=(*[models[0]] * 4, models[1]),
            purposes=(*[rng.choice(PURPOSES)] * 9, "TREAT"),
            task=TASKS[number % len(TASKS)],
        )

    def _chunk(self, at: dt.datetime, step: dt.timedelta, count: int, share: float) -> list[Made]:
        rng, kinds = self._random, tuple(WORDS)
        keys = rng.choices(range(len(self._keys)), cum_weights=self._key_weights, k=count)
        words = rng.choices(kinds, cum_weights=_WORD_WEIGHTS, k=count)
        raw = rng.randbytes(7 * count)
        draws = rng.choices(range(1 << 16), k=3 * count)
        revision, version = 1 + int(share * 6), f"0.{1 + int(share * 12)}.0"
        seconds = max(step.total_seconds(), 1e-6)
        made: list[Made] = []
        for i in range(count):
            key, word = keys[i], words[i]
            a, b, c = draws[3 * i], draws[3 * i + 1], draws[3 * i + 2]
            habit = self._habits[key]
            department, name = self._keys[key]
            combination = Combination(word, department, name)
            if word.outcome:
                combination = Combination(
                    word, department, name, revision, version,
                    habit.modalities[a % 5], habit.models[b % 5], habit.purposes[c % 10], habit.task,
                )  # fmt: skip
            number = self._numbers.get(combination)
            if number is None:
                number = self._numbers[combination] = self._make(combination)
            template = self.templates[number]
            # The millisecond is jittered by some seconds either way, and never whole: bytes keep their length.
            when = at + dt.timedelta(seconds=i * seconds + (a - 32768) / 10000, microseconds=1 + b % 7)
            if not when.microsecond:
                when += dt.timedelta(microseconds=1)
            text = f"{when.isoformat()[:26]}Z"
            # Ids rise with time, as the gateway's do.
            prefix = "dec_" if template.kind == "decision.v1" else "acc_"
            id_ = f"{prefix}{int(when.timestamp() * 1000):012x}{raw[7 * i : 7 * i + 7].hex()}"
            person = f"{department}.{(a * 31 + b) % PERSONS:03d}" if c % 3 else f"{department}.000"
            patient = study = subject = risk = None
            if template.kind == "decision.v1":
                patient = _hashed("patient", (a << 2 | b & 3) % 200_000)
                study = _hashed("study", a << 16 | b)
                if template.band is not None:
                    risk = round((template.band + (1 + c % 997) / 1000) / 4, 5)
            else:
                subject = made[-1 - a % len(made)].id if made else id_
            values = (
                id_,
                text,
                person,
                patient or "",
                study or "",
                subject or "",
                "" if risk is None else json.dumps(risk),
            )
            parts: list[bytes] = []
            for piece, place in zip(template.pieces, template.places, strict=False):
                parts.append(piece)
                parts.append(values[place].encode())
            parts.append(template.pieces[-1])
            body = b"".join(parts)
            made.append(Made(id_, when, leaf_of(body), body, number, person, patient, study, risk, subject))
        return made

    def _make(self, made_for: Combination) -> int:
        record = self._decision(made_for) if made_for.word.outcome else _access(made_for)
        pieces, places = _cut(canonical(record))
        traits = traits_of(record)
        decided = isinstance(record, DecisionV1)
        band = made_for.word.band if decided else None
        # The risk that is put in lies in this band; the mark that stands for it may not.
        traits = replace(traits, dimensions=(*traits.dimensions[:-1], band))
        kind, outcome = str(traits.dimensions[0]), made_for.word.outcome or None
        self.templates.append(Template(record, pieces, places, traits, made_for.department, outcome, kind, band))
        return len(self.templates) - 1

    def _decision(self, made_for: Combination) -> DecisionV1:
        word, department = made_for.word, made_for.department
        base = self._bases[word.outcome]
        risk = None if word.band is None else _RISK
        final, admission = base.final, base.admission
        if isinstance(final, RefuseV1 | WithholdV1):
            first = replace(final.reasons[0], code=str(word.reason))
            final = replace(final, rule=word.rule, reasons=(first,))
        if isinstance(final, RefuseV1):
            final = admission = replace(final, risk=risk)
        elif isinstance(admission, AdmitV1):
            admission = replace(admission, risk=_RISK)
        image = ImageV1(
            part="messages[0].content[1]",
            digest="c3" * 16,
            source="dicom",
            modality=made_for.modality,
            width=1,
            height=1,
        )
        attempts = tuple(
            replace(one, completed=replace(one.completed, model=made_for.model))
            for one in base.attempts
            if isinstance(one.completed, CompletedV1)
        )
        digest = hashlib.sha256(f"{department}{made_for.revision}".encode()).hexdigest()
        return replace(
            base,
            id=_ID,
            at=_AT,
            gateway=made_for.version,
            department=department,
            caller=CallerV1(key=made_for.key, department=department, roles=("caller",), person=_PERSON, via="oidc"),
            policy=PolicyV1(department=department, revision=made_for.revision, digest=digest),
            images=() if made_for.modality is None else (image,),
            admission=admission,
            final=final,
            attempts=attempts,
            context=ContextV1(purpose=made_for.purpose, patient=_PATIENT, study=_STUDY, task=made_for.task),
        )


def _access(made_for: Combination) -> AccessV1:
    caller = CallerV1(key=made_for.key, department=made_for.department, roles=("officer",), person=_PERSON)
    return AccessV1(
        id=_ID, at=_AT, caller=caller, endpoint="/decisions", action="read", decisions=(_SUBJECT,), why=None, rows=1
    )


def _lean(record: DecisionV1) -> DecisionV1:
    """Leave out what may be left out, so that two records fit a page of SQLite and millions fit a disk."""
    final = replace(record.final, redactions=(), noted=()) if isinstance(record.final, ReleaseV1) else record.final
    attempts = tuple(
        replace(one, audits=(), injected=None, completed=replace(one.completed, config=None, answer="9d" * 8))
        for one in record.attempts[-1:]
        if isinstance(one.completed, CompletedV1)
    )
    if isinstance(final, ReleaseV1):
        attempts = tuple(replace(one, verdict=final) for one in attempts)
    return replace(
        record,
        screening=(),
        coverage=(),
        attempts=attempts,
        final=final,
        erased=("prompt",),
        review=None,
        where=None,
        clock=None,
        answer=None if record.answer is None else "9d" * 16,
        prompt="7c" * 16,
    )


def _hashed(kind: str, number: int) -> str:
    return hashlib.sha256(f"{kind}{number}".encode()).hexdigest()


def patient(number: int) -> str:
    """Give the pseudonym of a patient, of 200,000."""
    return _hashed("patient", number)


def _cut(body: bytes) -> tuple[tuple[bytes, ...], tuple[int, ...]]:
    """Cut a record's bytes at the marks."""
    found = sorted((at, number) for number, mark in enumerate(_MARKS) for at in _all(body, mark.encode()))
    pieces, places, last = [], [], 0
    for at, number in found:
        pieces.append(body[last:at])
        places.append(number)
        last = at + len(_MARKS[number])
    return (*pieces, body[last:]), tuple(places)


def _all(body: bytes, mark: bytes) -> Iterator[int]:
    at = body.find(mark)
    while at >= 0:
        yield at
        at = body.find(mark, at + 1)


def checked(bulk: Bulk, made: Made) -> Record:
    """Parse a row, which must be canonical and be what it says it is; give its record. Raises AssertionError."""
    record = parse(made.body)
    traits, template = traits_of(record), bulk.templates[made.template]
    same = (record.id, record.at, traits.person, traits.patient, traits.study, traits.risk, traits.dimensions)
    due = (made.id, made.at, made.person, made.patient, made.study, made.risk, template.traits.dimensions)
    assert same == due, (same, due)
    assert traits.subjects == (() if made.subject is None else (made.subject,))
    return record
