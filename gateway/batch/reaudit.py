"""Past decisions judged again under a candidate policy, line by line of a batch, and the report on what would change.

Nothing that was decided is changed: each line leaves a record of its own (`ReauditV1`) that refers to the decision.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from gateway.batch.answering import without_response
from gateway.batch.reading import LineError, read_judged
from gateway.batch.reaudit_content import ContentJudge, Look
from gateway.batch.reaudit_plan import Plan, options_of, plan_of
from gateway.errors import ConfigurationError, LogDamaged, NotPermitted
from gateway.policy.replay import Judged, replay
from gateway.records import CallerV1, DecisionV1, ReauditV1, covers, new_id
from gateway.records.reaudit_report import JudgedLine, Tally, is_changed
from gateway.records.restore import codes, restored
from gateway.store import Batch, DecisionLog, LineResult
from gateway.store.log import Stored

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_PLANS = 8  # batches whose candidates are kept read
_REASONS = 8  # reasons that a record names; the first ones are the worst

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(JudgedLine).decode


class _Together:
    """Reads the records that are wanted at the same moment by one query."""

    def __init__(self, decisions: DecisionLog) -> None:
        self._decisions = decisions
        self._waiting: dict[str, asyncio.Future[Stored | LogDamaged | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, id: str) -> Stored | LogDamaged | None:
        """Give a record, None where there is none, the exception where it was changed. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        wanted = self._waiting.get(id)
        if wanted is None:
            wanted = self._waiting[id] = loop.create_future()
            if len(self._waiting) == 1:
                self._task = loop.create_task(self._read())
        return await asyncio.shield(wanted)

    async def _read(self) -> None:
        await asyncio.sleep(0)  # until all lines that were begun now have said what they want
        waiting, self._waiting = self._waiting, {}
        try:
            found = await self._decisions.several(tuple(waiting))
        except BaseException as exc:  # noqa: BLE001 - whoever waits is told
            for future in waiting.values():
                future.set_exception(exc)
                future.exception()  # also where nobody waits any more
            return
        for id_, future in waiting.items():
            future.set_result(found.get(id_))


class ReauditLines:
    """Judges the lines of re-audits for one process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._records = _Together(runtime.store.decisions)
        self._content = ContentJudge(runtime)
        self._plans: dict[str, Plan | ConfigurationError] = {}

    async def close(self) -> None:
        """Close the stages that were built for candidates."""
        await self._content.close()

    async def line(self, batch: Batch, number: int, raw: bytes) -> tuple[ReauditV1 | None, LineResult]:
        """Judge the decision that a line names; give the record of it, and what the line came to.

        Where it can not be judged at all there is no record, and the error file says why. Raises Unavailable.
        """
        try:
            decision = read_judged(raw)
        except LineError as exc:
            return None, without_response(batch, number, "invalid", exc.custom_id, exc.code, exc.message)
        stored = await self._records.get(decision)
        if isinstance(stored, LogDamaged):
            return None, without_response(batch, number, "failed", decision, "damaged_record", stored.message, 1)
        record = None if stored is None else stored.record
        if not isinstance(record, DecisionV1) or not covers(batch.caller, record.department):
            told = "there is no such decision for whoever made the batch; a search names those that there are"
            return None, without_response(batch, number, "invalid", decision, "unknown_decision", told)
        try:
            plan = self._plan(batch)
            if plan.place(record) not in plan.policies:
                told = f"no candidate is for the department `{record.department}`; name one with --policy"
                return None, without_response(batch, number, "invalid", decision, "no_candidate", told)
            judged, look = await self._judged(batch, plan, record)
        except ConfigurationError as exc:
            told = f"the candidate can not be tried here: {'; '.join(exc.problems)}"
            return None, without_response(batch, number, "failed", decision, "candidate_unusable", told, 1)
        except NotPermitted as exc:
            return None, without_response(batch, number, "failed", decision, "not_permitted", exc.message, 1)
        return self._told(batch, number, look, judged)

    async def report(self, batch: Batch, results: AsyncIterator[bytes]) -> bytes:
        """Count what the lines of a batch have come to: a JSON object (`ReauditReport`) as a file holds it."""
        options = options_of(batch.options)
        tally = Tally()
        async for body in results:
            try:
                tally.add(_decode(body))
            except msgspec.ValidationError:  # a line of the error file
                tally.failed += 1
        made = tally.report(
            batch=batch.id,
            candidates={department: one.digest for department, one in options.candidates.items()},
            searched=options.filter,
            content=options.content,
        )
        return msgspec.json.format(_encode(made)) + b"\n"

    def _plan(self, batch: Batch) -> Plan:
        known = self._plans.get(batch.id)
        if known is None:
            try:
                known = plan_of(options_of(batch.options), self._runtime.registry)
            except ConfigurationError as exc:
                known = exc
            self._plans[batch.id] = known
            while len(self._plans) > _PLANS:
                del self._plans[next(iter(self._plans))]
        if isinstance(known, ConfigurationError):
            raise known
        return known

    async def _judged(self, batch: Batch, plan: Plan, record: DecisionV1) -> tuple[Judged, Look]:
        options, look = plan.options, Look(batch, plan, record)
        past = restored(record, plan.configs[plan.place(record)], other_too=options.other_config)
        if options.other_config and any(kind in ("prescreener", "auditor") for kind, _ in past.other):
            look.caveats.append("other-config")
        judged = await self._content.judge(look, past) if options.content else replay(look.loaded.policy, past)
        return judged, look

    def _told(self, batch: Batch, number: int, look: Look, judged: Judged) -> tuple[ReauditV1, LineResult]:
        record, reasons = look.record, codes(judged.reasons)[:_REASONS]
        event = ReauditV1(
            id=new_id("rea"),
            at=dt.datetime.now(dt.UTC),
            caller=CallerV1.of(batch.caller),
            batch=batch.id,
            line=number,
            decision=record.id,
            department=record.department,
            policy=look.loaded.digest,
            source="content" if look.seen else "evidence",
            before=record.outcome,
            after=judged.after,
            rule=judged.rule,
            reasons=reasons,
        )
        line = JudgedLine(
            decision=record.id,
            department=record.department,
            before=event.before,
            after=event.after,
            changed=is_changed(event.before, event.after),
            rule=event.rule,
            reasons=reasons,
            source=event.source,
            caveats=tuple(dict.fromkeys((*judged.caveats, *look.caveats))),
        )
        result = LineResult(
            batch=batch.id,
            line=number,
            outcome="judged",
            ok=True,
            decision=record.id,
            reason=reasons[0] if reasons else None,
            tries=1,
            body=_encode(line),
        )
        return event, result
