"""`Settings -> Runtime`: the only place where things are joined. Nothing is built at import."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.bootstrap.building import Builder, config_digest, named_stages, unfitting
from gateway.bootstrap.runtime import Runtime
from gateway.errors import ConfigurationError
from gateway.identity.limiter import Limiter
from gateway.identity.load import load_identity
from gateway.opening import open_store
from gateway.pipeline import Pipeline
from gateway.pipeline.witness import Witness
from gateway.policy.load import load_policies
from gateway.policy.model import LoadedPolicy
from gateway.records import Digester
from gateway.registry import load_registry
from gateway.settings import Settings
from gateway.store import load_secret

if TYPE_CHECKING:
    from gateway.identity.model import Issuer
    from gateway.identity.tokens import Tokens

__all__ = ["Runtime", "bootstrap", "config_digest", "named_stages", "unfitting"]


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
    builder = Builder(registry)
    stages = {department: await builder.stages(policy) for department, policy in loaded.items()}
    models = {department: await builder.models(policy, stages[department]) for department, policy in loaded.items()}
    for department, policy in loaded.items():
        builder.problems += await unfitting(policy, stages[department], registry)
    if builder.problems:
        raise ConfigurationError(*dict.fromkeys(builder.problems))
    witness = Witness.of(settings.data_dir, Digester(load_secret(settings.data_dir, settings.secret)))
    store = await open_store(settings)
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
        pipelines={
            department: Pipeline(policy, stages[department], witness, models[department])
            for department, policy in loaded.items()
        },
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
