"""The record of an outcome: evidence and decisions are copied, content is digested with a key or left out."""

from __future__ import annotations

import datetime as dt

import msgspec

from gateway import __version__
from gateway.records import record
from gateway.records.content import answer_bytes, erased, handed_over, prompt_bytes
from gateway.records.context import context_of
from gateway.records.digest import Digester
from gateway.records.events import CallerV1
from gateway.records.keep import Keeper, kept_ms
from gateway.records.outcome import BatchLine, Outcome, Where
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
        policy=record.PolicyV1(
            department=outcome.policy.policy.department,
            revision=outcome.policy.policy.revision,
            digest=outcome.policy.digest,
        ),
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
    )


def _where(where: Where) -> record.WhereV1:
    return record.WhereV1(instance=where.instance, host=where.host, process=where.process)


def _batch(line: BatchLine) -> record.BatchLineV1:
    return msgspec.convert(line, record.BatchLineV1, from_attributes=True)


def _sampling(sampling: Sampling) -> record.SamplingV1:
    values = {name: getattr(sampling, name) for name in record.SamplingV1.__struct_fields__ if name != "stops"}
    return msgspec.convert({**values, "stops": len(sampling.stop)}, record.SamplingV1)
