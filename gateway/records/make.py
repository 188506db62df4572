"""The record of an outcome: evidence and decisions are copied, content is digested with a key or left out."""

from __future__ import annotations

import datetime as dt

import msgspec
from msgspec.structs import replace

from gateway import __version__
from gateway.records import record, shapes
from gateway.records.content import answer_bytes, erased, handed_over, prompt_bytes
from gateway.records.context import context_of
from gateway.records.digest import Digester
from gateway.records.events import CallerV1
from gateway.records.keep import Keeper, kept_ms
from gateway.records.outcome import BatchLine, Outcome, Streamed, Where
from gateway.records.review_plan import due
from gateway.values import Sampling


def record_of(outcome: Outcome, digester: Digester, sealed: record.SealedV1 | None = None) -> record.DecisionV1:
    """Make the record of `outcome`; no word of a prompt, an answer or a redaction is in it.

    `sealed` says what of it lies in the vault, None where nothing does.
    """
    keep = Keeper(digester, outcome)
    request = outcome.request
    return record.DecisionV1(
        id=request.id,
        at=outcome.started.astimezone(dt.UTC),
        gateway=__version__,
        department=outcome.policy.policy.department,
        caller=CallerV1.of(outcome.caller),
        endpoint=outcome.endpoint,
        model=keep.model(request.model),
        stream=request.stream,
        sampling=_sampling(request.sampling),
        policy=_policy(outcome),
        prompt=digester.digest("prompt", prompt_bytes(request)),
        images=tuple(
            record.ImageV1(
                part=keep.part(image.id),
                digest=digester.digest("image", image.data),
                source=image.source,
                modality=image.modality,
                width=image.width,
                height=image.height,
            )
            for image in request.images()
        ),
        screening=tuple(keep.screened(word) for word in outcome.screening),
        coverage=tuple(keep.covered(row) for row in outcome.coverage),
        admission=keep.admission(outcome.admission),
        attempts=tuple(keep.attempt(attempt) for attempt in outcome.attempts),
        final=keep.final(outcome.final),
        outcome=outcome.word,
        answer=None if outcome.answer is None else digester.digest("answer", answer_bytes(outcome.answer)),
        ms=kept_ms(outcome.ms),
        erased=erased(outcome, sealed=sealed is not None),
        defused=outcome.defused,
        review=due(outcome, digester),
        context=context_of(outcome.context, digester),
        where=None if outcome.where is None else _where(outcome.where),
        clock=outcome.clock,
        mode=outcome.mode,
        left=handed_over(outcome.answer),
        retention=outcome.policy.policy.records.keep,
        sealed=sealed,
        batch=None if outcome.batch is None else _batch(outcome.batch),
        streamed=None if outcome.streamed is None else _streamed(outcome.streamed),
    )


def opened_of(outcome: Outcome, digester: Digester, *, id: str, at: dt.datetime, hold_back: int) -> record.OpenedV1:
    """Make the record that a stream of the admitted `outcome` is opened; raises TypeError where it is not admitted."""
    keep = Keeper(digester, outcome)
    admission = keep.admission(outcome.admission)
    if not isinstance(admission, shapes.AdmitV1):
        raise TypeError("a stream is opened only of a request that was admitted")
    return record.OpenedV1(
        id=id,
        at=at.astimezone(dt.UTC),
        decision=outcome.request.id,
        gateway=__version__,
        department=outcome.policy.policy.department,
        caller=CallerV1.of(outcome.caller),
        endpoint=outcome.endpoint,
        model=keep.model(outcome.request.model),
        policy=_policy(outcome),
        prompt=digester.digest("prompt", prompt_bytes(outcome.request)),
        admission=admission,
        hold_back=hold_back,
    )


def _policy(outcome: Outcome) -> record.PolicyV1:
    policy = outcome.policy
    return record.PolicyV1(department=policy.policy.department, revision=policy.policy.revision, digest=policy.digest)


def _streamed(streamed: Streamed) -> record.StreamedV1:
    first = None if streamed.first_ms is None else kept_ms(streamed.first_ms)
    return msgspec.convert(replace(streamed, first_ms=first), record.StreamedV1, from_attributes=True)


def _where(where: Where) -> record.WhereV1:
    return record.WhereV1(instance=where.instance, host=where.host, process=where.process)


def _batch(line: BatchLine) -> record.BatchLineV1:
    return msgspec.convert(line, record.BatchLineV1, from_attributes=True)


def _sampling(sampling: Sampling) -> record.SamplingV1:
    values = {name: getattr(sampling, name) for name in record.SamplingV1.__struct_fields__ if name != "stops"}
    return msgspec.convert({**values, "stops": len(sampling.stop)}, record.SamplingV1)
