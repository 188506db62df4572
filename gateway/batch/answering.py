"""One line of a batch: from its bytes to the outcomes of its requests, and from those to its line in a file."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from gateway.batch.reading import LineError, error_line, read_envelope
from gateway.errors import RequestError, Unavailable
from gateway.pipeline.room import CONTEXT
from gateway.policy.decision import Reason, Refuse, Withhold
from gateway.policy.evidence import StageFailed
from gateway.records import BatchLine, Context, Outcome
from gateway.stages import in_thread
from gateway.store import Batch, LineOutcome, LineResult
from gateway.values import Request
from gateway.wire.chat import chat_request
from gateway.wire.decode import Decoder
from gateway.wire.errors import refused
from gateway.wire.moderation import moderation_body, moderation_requests
from gateway.wire.render import answer_of, completion_body, failure_of

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_HEAVY = 256 * 1024  # bytes of a line, above which it is read beside the event loop
_FAILED = frozenset({"stage-failed", "stage-missing", "model-failed", "demonstrations-failed"})
_FOLLOWS = frozenset({"uninspected", "scope-unknown"})  # what is said besides where a stage has given no word
_WELL = ("Refused", "TooLong")
"""Ends of the names of exceptions by which a model stage says that its server is well and does not take this prompt."""


class Prepared(Struct, frozen=True, kw_only=True):
    """A line as it was read: its requests with their images decoded, kept as long as it is tried."""

    custom_id: str
    requests: tuple[Request, ...]
    context: Context

    @property
    def pictured(self) -> bool:
        """Tell whether it holds images."""
        return any(request.images() for request in self.requests)


def line_id(batch: str, line: int) -> str:
    """Give the id of a line in the output and error files: the same however often it is tried."""
    return "batch_req_" + hashlib.sha256(f"{batch}\x00{line}".encode()).hexdigest()[:32]


class Answering:
    """Makes requests of lines, and has them judged."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._decoder = Decoder(runtime.settings.image_limits)

    async def prepare(self, batch: Batch, number: int, raw: bytes) -> Prepared | LineResult:
        """Read a line; what it comes to, where it is none that can be judged."""
        custom_id = None
        try:
            read = await in_thread(read_envelope, raw, batch) if len(raw) > _HEAVY else read_envelope(raw, batch)
            custom_id, department = read.custom_id, batch.department
            models = self._runtime.models(
                department
            )  # also where no model is asked: without a policy nothing is judged
            context = read.context
            if batch.kind == "screen":
                requests = await moderation_requests(read.body, self._decoder, department)
            else:
                request, asked = await chat_request(read.body, self._decoder, department, models)
                requests = (request,)
                if asked.user is not None:
                    context = msgspec.structs.replace(context, user=asked.user)
        except LineError as exc:
            return without_response(batch, number, "invalid", exc.custom_id, exc.code, exc.message)
        except RequestError as exc:
            status, body = refused(exc)
            return LineResult(
                batch=batch.id,
                line=number,
                outcome="invalid",
                ok=False,
                decision=None,
                reason=body["error"]["code"],
                tries=1,
                body=_with_response(batch.id, number, custom_id, status, None, msgspec.json.encode(body)),
            )
        except Unavailable as exc:
            return without_response(batch, number, "failed", custom_id, "no_policy", exc.message)
        return Prepared(custom_id=custom_id, requests=requests, context=context)

    async def judge(
        self, batch: Batch, number: int, line: Prepared, tries: int, gate: AbstractAsyncContextManager[object]
    ) -> tuple[Outcome, ...]:
        """Have the requests of a line judged, as the caller who made the batch would have them live.

        That key may have been revoked since: the batch goes on, because its lines were accepted before.
        """
        patience = self._runtime.pipelines[batch.department].policy.batch.patience
        said = BatchLine(batch=batch.id, line=number, tries=tries, patience=patience)
        screen_only = batch.kind == "screen"

        async def one(request: Request) -> Outcome:
            return await self._runtime.judge(
                request, batch.caller, batch.endpoint,
                context=line.context, batch=said, screen_only=screen_only, gate=gate,
            )  # fmt: skip

        if len(line.requests) == 1:
            return (await one(line.requests[0]),)
        turns = asyncio.Semaphore(max(2, os.cpu_count() or 1))  # more at once would only wait out their deadlines

        async def in_turn(request: Request) -> Outcome:
            async with turns:
                return await one(request)

        return tuple(await asyncio.gather(*map(in_turn, line.requests)))


def model_answered(outcomes: Sequence[Outcome]) -> bool | None:
    """Tell whether the model has answered: None where it was not asked."""
    words = [attempt.completed for outcome in outcomes for attempt in outcome.attempts if attempt.completed is not None]
    if not words:
        return None
    return any(not isinstance(word, StageFailed) or word.cause.endswith(_WELL) for word in words)


def transient(outcomes: Sequence[Outcome]) -> bool:
    """Tell whether a line may come to something else if it is tried again: only failures have kept it from its answer.

    What no other try would change is not tried again: demonstrations that do not fit, a prompt that a server refuses.
    """
    return any(_broken(outcome) and not any(map(_lasting, _reasons(outcome))) for outcome in outcomes)


def _reasons(outcome: Outcome) -> tuple[Reason, ...]:
    return outcome.final.reasons if isinstance(outcome.final, Refuse | Withhold) else ()


def _broken(outcome: Outcome) -> bool:
    """Tell whether nothing but failures has decided."""
    codes = {reason.code for reason in _reasons(outcome)}
    return bool(codes & _FAILED) and codes <= _FAILED | _FOLLOWS


def _lasting(reason: Reason) -> bool:
    cause = reason.cause or ""
    return cause == CONTEXT or (reason.code == "model-failed" and cause.endswith(_WELL))


def result_of(batch: Batch, number: int, custom_id: str, outcomes: Sequence[Outcome], tries: int) -> LineResult:
    """Write what a line came to, as a live request would be answered.

    It is stored in one transaction with the records of `outcomes`, or not at all: no line is answered without them.
    """
    pairs = [(outcome, outcome.request.id) for outcome in outcomes]
    first, decision = pairs[0]
    failure = None
    if batch.kind == "screen":
        status, body = 200, moderation_body(pairs)
    elif (failure := failure_of(first, decision)) is not None:
        status, body = failure.status, msgspec.json.encode(failure.body)
    else:
        status, body = 200, completion_body(answer_of(first, decision))
    return LineResult(
        batch=batch.id,
        line=number,
        outcome=_word(outcomes),
        ok=status == 200,
        decision=decision,
        reason=_reason(outcomes),
        tries=tries,
        body=_with_response(batch.id, number, custom_id, status, decision, body),
    )


def without_response(
    batch: Batch, number: int, outcome: LineOutcome, custom_id: str | None, code: str, message: str, tries: int = 0
) -> LineResult:
    """Write what a line came to that has no response: the error file says why."""
    return LineResult(
        batch=batch.id,
        line=number,
        outcome=outcome,
        ok=False,
        decision=None,
        reason=code,
        tries=tries,
        body=error_line(line_id(batch.id, number), custom_id, number, code, message),
    )


def _with_response(
    batch: str, number: int, custom_id: str | None, status: int, decision: str | None, body: bytes
) -> bytes:
    own = line_id(batch, number)
    response: dict[str, Any] = {"status_code": status, "request_id": decision or own, "body": msgspec.Raw(body)}
    return msgspec.json.encode({"id": own, "custom_id": custom_id, "response": response, "error": None})


def _word(outcomes: Sequence[Outcome]) -> LineOutcome:
    if any(map(_broken, outcomes)):
        return "failed"
    worst = next((outcome for outcome in outcomes if _reasons(outcome)), outcomes[0])
    return worst.word


def _reason(outcomes: Sequence[Outcome]) -> str | None:
    """Give the code of the first reason, with its label."""
    first = next((reason for outcome in outcomes for reason in _reasons(outcome)), None)
    return None if first is None else first.code if first.label is None else f"{first.code}:{first.label}"
