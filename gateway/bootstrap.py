"""`Settings -> Runtime`: the only place where things are joined. Nothing is built at import.

Over 300 lines, since what is joined, and what can be asked of it joined, is one subject.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from gateway.errors import ConfigurationError, Unavailable, describe
from gateway.identity.limiter import Limiter
from gateway.identity.load import load_identity
from gateway.pipeline import Built, BuiltStages, Pipeline
from gateway.pipeline.live import Live
from gateway.pipeline.room import never_fits
from gateway.pipeline.witness import Witness
from gateway.policy.load import load_policies
from gateway.policy.model import LoadedPolicy, convert
from gateway.records import NOTHING_SAID, BatchLine, Caller, Context, Digester, Outcome
from gateway.registry import Offer, Registry, load_registry
from gateway.settings import Settings
from gateway.stages import Kind, ModelRef
from gateway.store import FileKey, FileSink, Logged, Store, load_keyring, load_secret, parse_sinks
from gateway.values import Request

if TYPE_CHECKING:
    from gateway.identity.model import Issuer
    from gateway.identity.tokens import Tokens

_METHOD: Mapping[Kind, str] = {
    "prescreener": "screen",
    "injector": "inject",
    "backend": "complete",
    "auditor": "audit",
}


def named_stages(loaded: LoadedPolicy) -> tuple[tuple[Kind, str, str, dict[str, Any]], ...]:
    """List the stages that a policy names: kind, name, place in the file, configuration."""
    policy = loaded.policy
    rows: list[tuple[Kind, str, str, dict[str, Any]]] = [
        ("prescreener", s.stage, f"prescreen[{i}]", s.config) for i, s in enumerate(policy.prescreen)
    ]
    if policy.demonstrations is not None:
        rows.append(("injector", policy.demonstrations.stage, "demonstrations", policy.demonstrations.config))
    rows.append(("backend", policy.backend.stage, "backend", policy.backend.config))
    rows += [("auditor", s.stage, f"audit[{i}]", s.config) for i, s in enumerate(policy.audit)]
    return tuple(rows)


def config_digest(config: Struct) -> str:
    """Give the SHA-256, in hex, of a stage's configuration as it is in effect: defaults written out, keys sorted."""
    return hashlib.sha256(msgspec.json.encode(config, order="deterministic", enc_hook=repr)).hexdigest()


class _Builder:
    """Builds each distinct stage once: the same stage with the same configuration is shared by all policies."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[tuple[Kind, str, bytes], Built] = {}
        self.problems: list[str] = []

    async def stages(self, loaded: LoadedPolicy) -> BuiltStages:
        """Build what a policy names; problems are gathered, not raised."""
        built: dict[tuple[Kind, str], Built] = {}
        for kind, name, place, config in named_stages(loaded):
            made = await self._made_once(kind, name, config, f"{loaded.path}: {place}")
            if made is not None:
                built[kind, name] = made
        return built

    async def _made_once(self, kind: Kind, name: str, config: dict[str, Any], where: str) -> Built | None:
        key = (kind, name, msgspec.json.encode(config, order="deterministic"))
        if key not in self._made:
            made = await self._build(self._registry.offers[kind][name], config, where)
            if made is None:
                return None
            self._made[key] = made
        return self._made[key]

    async def _asked(self, offer: Offer, config: Any, where: str) -> tuple[Any, ...] | None:
        """Build the model that a stage asks: nothing to hand over, the model, or None where it can not be built."""
        if offer.stage.asks is None:
            return ()
        ref: ModelRef = getattr(config, offer.stage.asks)
        place = f"{where}.config.{offer.stage.asks}"
        if ref.stage not in self._registry.offers["backend"]:
            known = ", ".join(f"`{name}`" for name in sorted(self._registry.offers["backend"])) or "none"
            self.problems.append(f"{place}.stage: no installed plugin offers the model `{ref.stage}`; known: {known}")
            return None
        made = await self._made_once("backend", ref.stage, ref.config, place)
        return None if made is None else (made.stage,)

    async def _build(self, offer: Offer, config: dict[str, Any], where: str) -> Built | None:
        try:
            given = convert(config, offer.stage.config)
            asked = await self._asked(offer, given, where)
            if asked is None:
                return None
            stage = await asyncio.to_thread(offer.stage.build, given, *asked)
        except (ValueError, msgspec.ValidationError) as exc:  # a plugin's own hint: no request has been seen yet
            self.problems.append(f"{where}: stage `{offer.name}` can not be built: {exc}")
            return None
        except Exception as exc:  # noqa: BLE001 - whatever else a plugin raises at start-up is told by its place
            self.problems.append(
                f"{where}: stage `{offer.name}` of `{offer.distribution}` failed to build ({describe(exc)})"
            )
            return None
        method = getattr(stage, _METHOD[offer.kind], None)
        if not inspect.iscoroutinefunction(method):
            self.problems.append(f"{where}: stage `{offer.name}` has no async method `{_METHOD[offer.kind]}`")
            return None
        return Built(name=offer.name, version=offer.version, stage=stage, config=config_digest(given))

    def made(self) -> tuple[Built, ...]:
        return tuple(self._made.values())


async def _nobody() -> None:
    """Wake no worker: one looks by itself after a while."""


class Runtime(Struct, frozen=True, kw_only=True):
    """The joined gateway. `pipelines` is by department; `stages` are the distinct stage objects, closed at the end.

    `wake` wakes a worker once there is work for it; it never raises. `live` counts the requests that are answered now.
    """

    settings: Settings
    registry: Registry
    store: Store
    pipelines: Mapping[str, Pipeline]
    stages: tuple[Built, ...]
    limits: Limiter = msgspec.field(default_factory=Limiter)
    tokens: Tokens | None = None
    wake: Callable[[], Awaitable[None]] = _nobody
    live: Live = msgspec.field(default_factory=Live)

    async def answer(
        self, request: Request, caller: Caller, endpoint: str, *, context: Context = NOTHING_SAID
    ) -> Logged:
        """Decide `request` under the caller's policy and log it; an answer is made only of what this gives.

        Raises Unavailable where the log can not be written, or no policy covers the caller's department.
        """
        outcome = await self._pipeline(caller.department).run(request, caller, endpoint, context=context)
        # The record is written even where the caller has gone meanwhile: the model was asked.
        return await asyncio.shield(self.store.decisions.append(outcome))

    async def moderate(
        self, requests: tuple[Request, ...], caller: Caller, endpoint: str, *, context: Context = NOTHING_SAID
    ) -> tuple[Logged, ...]:
        """Screen `requests` side by side under the caller's policy, and log each; no model is asked.

        Raises Unavailable as `answer` does.
        """
        pipeline = self._pipeline(caller.department)
        gate = asyncio.Semaphore(max(2, os.cpu_count() or 1))  # more at once would only wait out each other's deadlines

        async def one(request: Request) -> Logged:
            async with gate:
                outcome = await pipeline.moderate(request, caller, endpoint, context=context)
            return await self.store.decisions.append(outcome)

        return tuple(await asyncio.shield(asyncio.gather(*map(one, requests))))

    async def judge(
        self,
        request: Request,
        caller: Caller,
        endpoint: str,
        *,
        context: Context = NOTHING_SAID,
        batch: BatchLine,
        screen_only: bool = False,
        gate: AbstractAsyncContextManager[object] | None = None,
    ) -> Outcome:
        """Decide the line of a batch by the policy of its request's department, as `answer` would, and do not log it.

        All deadlines are multiplied by the line's patience; `gate` is entered around each asking of the model. With
        `screen_only` no model is asked. Raises Unavailable where no policy covers the department.
        """
        pipeline = self._pipeline(request.department).patient(batch.patience, gate)
        take = pipeline.moderate if screen_only else pipeline.run
        return msgspec.structs.replace(await take(request, caller, endpoint, context=context), batch=batch)

    def upstream(self, department: str) -> object:
        """Give what tells the department's model from others: departments with the same one get the same object.

        Raises Unavailable where no policy covers the department.
        """
        return self._pipeline(department).backend

    def models(self, department: str) -> tuple[str, ...]:
        """Name the models that a department may use; the first is the default."""
        return self._pipeline(department).models()

    async def authenticate(self, token: str) -> Caller | None:
        """Tell who holds an API key or a bearer token; None for an unknown or revoked one.

        Raises NotAuthenticated where more can be told (the key was right and has expired), NotPermitted where a token
        is good and gives no role, and Unavailable where nobody can tell: nobody is let in then.
        """
        if self.tokens is not None and token.count(".") == 2:
            caller: Caller | None = await self.tokens.authenticate(token)
        else:
            caller = await self.store.keys.authenticate(token)
        return None if caller is None else await self.store.grants.active(caller)

    async def ready(self) -> tuple[tuple[str, bool], ...]:
        """Check what an answer needs: the log, a policy, and the Redis that counts, where one does."""
        counted = await self.limits.healthy()
        others = (("policies", bool(self.pipelines)), *(() if counted is None else (("limits", counted),)))
        try:
            await self.store.decisions.healthy()
        except Unavailable:
            return (("log", False), *others)
        return (("log", True), *others)

    async def close(self) -> None:
        """Close the stages, then flush and close the store."""
        for built in self.stages:
            aclose = getattr(built.stage, "aclose", None)
            if aclose is not None:
                with contextlib.suppress(Exception):  # what a stage does at its end must not keep the log from closing
                    await aclose()
        for each in (self.limits, self.tokens):
            with contextlib.suppress(Exception):  # nor must a Redis or an issuer that is away
                if each is not None:
                    await each.close()
        await self.store.close()

    def _pipeline(self, department: str) -> Pipeline:
        pipeline = self.pipelines.get(department)
        if pipeline is None:
            raise Unavailable(
                f"no policy covers the department `{department}`; ask the gateway's operator to add "
                f"`{department}.yaml` to the policies folder"
            )
        return pipeline


async def unfitting(loaded: LoadedPolicy, stages: BuiltStages, registry: Registry) -> list[str]:
    """Name the budgets of a policy that its model's context can never hold, as far as its configuration tells."""
    spec, backend = loaded.policy.demonstrations, loaded.policy.backend
    built = None if spec is None else stages.get(("injector", spec.stage))
    offer = registry.offers["backend"].get(backend.stage)
    if built is None or offer is None or offer.stage.context is None:
        return []
    context = offer.stage.context(convert(backend.config, offer.stage.config))
    return [f"{loaded.path}: {problem}" for problem in await never_fits(loaded.policy, built.stage, context)]


def _policy_digests(loaded: Mapping[str, LoadedPolicy]) -> dict[str, str]:
    """Give the digest of each department's policy, and under ``*`` that of the list of departments."""
    names = hashlib.sha256("\n".join(sorted(loaded)).encode()).hexdigest()
    return {"*": names, **{department: policy.digest for department, policy in loaded.items()}}


def _tokens(settings: Settings, issuers: tuple[Issuer, ...]) -> Tokens | None:
    """Make what checks bearer tokens, where any are taken."""
    if settings.identity is None:
        return None
    from gateway.identity.replay import MemorySeen, RedisSeen
    from gateway.identity.tokens import Tokens

    seen = MemorySeen() if settings.limits_url is None else RedisSeen(settings.limits_url)
    return Tokens(issuers, settings.identity.parent, seen)


async def bootstrap(settings: Settings, *, sequencing: bool = True) -> Runtime:
    """Join everything. Raises ConfigurationError with every problem found, and leaves nothing open then.

    Without `sequencing` nothing here grows the log's tree or delivers its checkpoints: workers of batches leave that to
    the process that serves, and to Celery's beat.
    """
    registry = load_registry()
    loaded = load_policies(settings.policies_dir, registry.configs())
    issuers, issuers_digest = ((), "none") if settings.identity is None else load_identity(settings.identity, loaded)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    builder = _Builder(registry)
    stages = {department: await builder.stages(policy) for department, policy in loaded.items()}
    for department, policy in loaded.items():
        builder.problems += await unfitting(policy, stages[department], registry)
    if builder.problems:
        raise ConfigurationError(*dict.fromkeys(builder.problems))
    secret = load_secret(settings.data_dir, settings.secret)
    witness = Witness.of(settings.data_dir, Digester(secret))
    store = await Store.open(
        settings.database_url,
        secret=secret,
        log_key=FileKey(settings.log_key or settings.data_dir / "log.key"),
        log_name=settings.log_name,
        sinks=(FileSink(settings.data_dir / "checkpoints", folder=True), *parse_sinks(settings.checkpoint_sinks)),
        keyring=load_keyring(
            settings.data_dir,
            value=settings.vault_key,
            file=settings.vault_key_file,
            kms=settings.vault_kms,
            kms_key=settings.vault_kms_key,
        ),
        files_dir=settings.files,
    )
    try:
        if any(policy.policy.content.keep == "sealed" for policy in loaded.values()):
            await store.vault.ready()
        await store.retention.finish()
        await store.configured.note("policy-loaded", _policy_digests(loaded))
        await store.configured.note("identity-loaded", {"issuers": issuers_digest})
    except BaseException:
        await store.close()
        raise
    if sequencing:
        store.sequencer.start()
        store.deliveries.start()
    return Runtime(
        settings=settings,
        registry=registry,
        store=store,
        pipelines={department: Pipeline(policy, stages[department], witness) for department, policy in loaded.items()},
        stages=builder.made(),
        limits=Limiter(
            key=settings.limit_key,
            department=settings.limit_department,
            failures=settings.limit_failures,
            url=settings.limits_url,
            allow_if_unavailable=settings.limits_allow_if_unavailable,
        ),
        tokens=_tokens(settings, issuers),
    )
