"""Sealed content judged again: a candidate's stages are asked about it, by the pipeline's own functions.

As little is looked at as the question needs: content stays shut where the evidence of the record decides, and is opened
once for a decision, on the record.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from gateway.batch.reaudit_plan import Plan
from gateway.bootstrap import config_digest
from gateway.errors import ConfigurationError, LogDamaged, NotFound
from gateway.evaluation.stages import Workbench
from gateway.pipeline import Built, Pipeline
from gateway.pipeline.call import Fault, call_stage
from gateway.pipeline.defuse import defused
from gateway.policy.gather import gather
from gateway.policy.model import AuditSpec, DemonstrationsSpec, LoadedPolicy, PrescreenSpec, convert
from gateway.policy.replay import Asking, Judged, Past, heard_anew, replay, unheard
from gateway.records import DecisionV1
from gateway.records.content import answer_bytes, demonstrations_digest, prompt_bytes
from gateway.records.rebuild import completion_of, found_of, request_of
from gateway.records.sealing import ContentV1
from gateway.records.shapes import CompletedV1, InjectedV1
from gateway.stages import IllustratingInjector, Kind
from gateway.store import Batch
from gateway.values import Demonstration, Prompt, Request

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_log = logging.getLogger("gateway.batch")

_METHOD = {"prescreener": "screen", "injector": "inject", "auditor": "audit"}
_SHUT = {"content_not_kept": "content-not-kept", "content_erased": "content-erased"}
_ROUNDS = 3  # rounds of asking: those who lacked a word, second opinions that they call for, and all of them


class Look:
    """What was found when one decision was judged again. `seen`: a stage has looked at its content."""

    def __init__(self, batch: Batch, plan: Plan, record: DecisionV1) -> None:
        self.batch = batch
        self.plan = plan
        self.record = record
        self.loaded: LoadedPolicy = plan.policies[plan.place(record)]
        self.seen = False
        self.caveats: list[str] = []
        self._content: ContentV1 | None = None
        self._request: Request | None = None
        self._tried = False

    async def open(self, runtime: Runtime) -> tuple[ContentV1, Request] | None:
        """Open the content, once; None where it is not there or does not fit its record."""
        if not self._tried:
            self._tried = True
            await self._open(runtime)
        return None if self._content is None or self._request is None else (self._content, self._request)

    async def _open(self, runtime: Runtime) -> None:
        record, batch = self.record, self.batch
        try:
            content = await runtime.store.vault.reaudit(
                record, batch.caller, batch.endpoint, self.plan.options.why or "", batch.id
            )
            request = request_of(content, record)
        except NotFound as exc:
            self.caveats.append(_SHUT.get(exc.code or "", "content-not-kept"))
            return
        except LogDamaged:
            _log.error("the sealed content of `%s` is damaged; run `gateway log verify --deep`", record.id)
            self.caveats.append("content-damaged")
            return
        except ValueError:
            self.caveats.append("content-unlike")
            return
        if runtime.store.decisions.keyed("prompt", prompt_bytes(request)) != record.prompt:
            self.caveats.append("content-unlike")
            return
        self._content, self._request = content, request


class ContentJudge:
    """Judges content for one process. Stages are built when they are first asked, each once."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._bench = Workbench(runtime.registry)
        self._building = asyncio.Lock()
        self._turns = asyncio.Semaphore(2 * (os.cpu_count() or 1))

    async def close(self) -> None:
        """Close the stages that were built here."""
        await self._bench.close()

    async def judge(self, look: Look, past: Past) -> Judged:
        """Judge a decision by its evidence, and by its content where that does not tell or more was asked for.

        Raises ConfigurationError where a stage of the candidate can not be built, NotPermitted, and Unavailable.
        """
        async with self._turns:  # images are held while they are looked at
            return await self._judge(look, past)

    async def _judge(self, look: Look, past: Past) -> Judged:
        options, policy = look.plan.options, look.loaded.policy
        judged = replay(policy, past)
        if options.all_stages or (judged.after == "unknown" and _lacking(past, look)):
            past = await self._screened(look, past)
            judged = replay(policy, past)
        if judged.after not in ("released", "withheld", "unknown", "asked"):
            return judged
        for number, asking in enumerate(past.askings):
            names = _auditors(look, asking, judged)
            if not names or asking.answer is None:
                continue
            again = await self._audited(look, asking, number, names)
            if again is None:
                break
            askings = (*past.askings[:number], again, *past.askings[number + 1 :])
            past = replace(past, askings=askings, other=past.other - {("auditor", name) for name in names})
            judged = replay(policy, past)
        return judged

    async def _screened(self, look: Look, past: Past) -> Past:
        """Ask the pre-screeners that lack a word, or all of them where one word hangs on the others'."""
        opened = await look.open(self._runtime)
        if opened is None:
            return past
        _, request = opened
        names = {spec.stage for spec in look.loaded.policy.prescreen}
        parts = {part.id for part in request.parts()}
        alone = not look.plan.options.all_stages and all(row.part in parts for row in past.coverage)
        for turn in range(_ROUNDS):
            lacking = set(_lacking(past, look)) if alone and turn < _ROUNDS - 1 else names
            if not lacking:
                break
            outcome = await (await self._pipeline(look, screens=lacking)).moderate(
                request, look.batch.caller, look.batch.endpoint
            )
            look.seen = True
            other = past.other - {("prescreener", name) for name in lacking}
            if lacking == names:
                return replace(past, screening=outcome.screening, coverage=outcome.coverage, other=other)
            words = tuple(word for word in past.screening if word.stage not in lacking)
            looked = {row.part: row.by for row in outcome.coverage}
            rows = tuple(replace(row, by=(*row.by, *looked.get(row.part, ()))) for row in past.coverage)
            past = replace(past, screening=(*words, *outcome.screening), coverage=rows, other=other)
            # Text that is newly found in images is to be judged by the others, too.
            alone = len(outcome.coverage) == len(parts)
        return past

    async def _audited(self, look: Look, asking: Asking, number: int, names: Collection[str]) -> Asking | None:
        opened = await look.open(self._runtime)
        if opened is None:
            return None
        content, request = opened
        try:
            completion = completion_of(content, look.record, number)
        except ValueError:
            completion = None
        completed = look.record.attempts[number].completed
        digest = completed.answer if isinstance(completed, CompletedV1) else None
        if completion is None or self._runtime.store.decisions.keyed("answer", answer_bytes(completion)) != digest:
            look.caveats.append("content-unlike")
            return None
        prompt, _ = defused(request, found_of(content))
        shown = await self._shown(look, prompt, number)
        words = await (await self._pipeline(look, audits=names)).audit(shown, completion, number)
        look.seen = True
        return heard_anew(asking, completion, words)

    async def _shown(self, look: Look, bare: Prompt, number: int) -> Prompt:
        """Put the demonstrations before the question that were there, where they can still be had."""
        injected, spec = look.record.attempts[number].injected, look.loaded.policy.demonstrations
        if not isinstance(injected, InjectedV1) or not injected.demonstrations:
            return bare
        had = None
        if spec is not None and spec.stage == injected.stage:
            had = await self._illustrated(look, spec, injected)
        if had is None or spec is None:
            if "demonstrations-unseen" not in look.caveats:
                look.caveats.append("demonstrations-unseen")
            return bare
        return replace(bare, demonstrations=had, form=spec.form, role=spec.role)

    async def _illustrated(
        self, look: Look, spec: DemonstrationsSpec, injected: InjectedV1
    ) -> tuple[Demonstration, ...] | None:
        stage = (await self._built("injector", spec, f"{look.loaded.path}: demonstrations")).stage
        if not isinstance(stage, IllustratingInjector):
            return None
        ids = injected.demonstrations
        value, _ = await call_stage(
            lambda: stage.illustrate(ids),
            deadline=spec.deadline.seconds * look.loaded.policy.batch.patience,
            check=lambda v: None if type(v) is tuple and all(type(d) is Demonstration for d in v) else "nonsense:type",
        )
        if isinstance(value, Fault) or not isinstance(value, tuple):
            return None
        bare = tuple(replace(one, image=None) for one in value)
        return next((some for some in (value, bare) if demonstrations_digest(some) == injected.digest), None)

    async def _pipeline(self, look: Look, *, screens: Collection[str] = (), audits: Collection[str] = ()) -> Pipeline:
        """Give the candidate's pipeline with these stages alone, which is as patient as its batches."""
        policy = look.loaded.policy
        prescreen = tuple(spec for spec in policy.prescreen if spec.stage in screens)
        audit = tuple(spec for spec in policy.audit if spec.stage in audits)
        built: dict[tuple[Kind, str], Built] = {}
        for screener in prescreen:
            built["prescreener", screener.stage] = await self._built("prescreener", screener, look.loaded.path)
        for auditor in audit:
            built["auditor", auditor.stage] = await self._built("auditor", auditor, look.loaded.path)
        narrowed = replace(look.loaded, policy=replace(policy, prescreen=prescreen, audit=audit))
        return Pipeline(narrowed, built).patient(policy.batch.patience)

    async def _built(self, kind: Kind, spec: PrescreenSpec | AuditSpec | DemonstrationsSpec, where: str) -> Built:
        """Give a stage: one of the gateway's own where it is configured the same, else one that is built here."""
        offer = self._runtime.registry.offers[kind][spec.stage]
        digest = config_digest(convert(spec.config, offer.stage.config))
        for made in self._runtime.stages:
            if (made.name, made.config) == (spec.stage, digest) and _does(made.stage, kind):
                return made
        async with self._building:
            built = await self._bench.stage(kind, spec.stage, spec.config, where)
            self._bench.check()
        if built is None:  # `check` has told why
            raise ConfigurationError(f"{where}: stage `{spec.stage}` can not be built")
        return built


def _does(stage: Any, kind: Kind) -> bool:
    return inspect.iscoroutinefunction(getattr(stage, _METHOD[kind], None))


def _lacking(past: Past, look: Look) -> tuple[str, ...]:
    return gather(look.loaded.policy, past.screening, past.coverage).lacking


def _auditors(look: Look, asking: Asking, judged: Judged) -> set[str]:
    """Name the auditors that are to look at an answer."""
    options = look.plan.options
    named = {spec.stage for spec in look.loaded.policy.audit}
    if options.all_stages:
        return named
    wanted = named & set(options.auditors)
    if judged.after == "unknown":
        wanted |= {*unheard(look.loaded.policy, asking)}
        wanted |= {one.stage for one in judged.reasons if one.code == "replacement-unknown" and one.stage is not None}
    return wanted
