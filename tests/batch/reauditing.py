"""What the tests of re-audits share: small stages as plugins offer them, decisions made with them, and a worker."""

import contextlib
import json
from pathlib import Path

import msgspec
from store.kit import SECRET

from gateway.batch.reaudit_plan import Candidate, Options, configs_of
from gateway.batch.reaudit_start import begin, report_of, work_off
from gateway.bootstrap import Runtime, config_digest
from gateway.pipeline import Built, Pipeline
from gateway.policy.load import load_candidates, read_policy
from gateway.policy.model import convert
from gateway.records import Caller
from gateway.registry import Offer, Registry
from gateway.settings import Settings
from gateway.stages import NoConfig, Stage
from gateway.store import Store, load_keyring, parse_filter
from gateway.testing import (
    FixedAuditor,
    FixedInjector,
    FixedPreScreener,
    ScriptedBackend,
    demonstration,
    image,
    request,
)

OFFICER = Caller(key="os-account:7", department="*", roles=("officer", "operator"), via="os")
POLICY = """\
department: radiology
revision: 1
backend: {stage: echo}
prescreen: [{stage: words}]
audit: [{stage: harm}]
tiers: [{below: 0.8, budget: {demonstrations: 0}}]
"""
SEALED = POLICY + "content: {keep: sealed, for: 30d}\n"


class Level(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A configuration with something in it."""

    level: int = 1


class Judge(FixedPreScreener):
    """Gives what the word in the text says; counts how often it is asked."""

    def __init__(self, risks):
        super().__init__(images=True)
        self.risks, self.asked = risks, []

    async def screen(self, request):
        self.asked.append(request)
        words = " ".join(text.text for text in request.texts())
        risk = next((risk for word, risk in self.risks.items() if word in words), 0.0)
        return msgspec.structs.replace(await super().screen(request), risk=risk)


class Showing(FixedInjector):
    """Shows again what it once chose, with a picture that was not there."""

    async def illustrate(self, ids):
        shown = (demonstration(int(one.split("-")[1]), refuses=one.endswith("refuse")) for one in ids)
        return tuple(msgspec.structs.replace(one, image=image(8, 8)) for one in shown)


class Watching(FixedAuditor):
    """Finds nothing, and keeps how many demonstrations it saw, and in which form."""

    def __init__(self):
        super().__init__()
        self.demonstrations, self.forms = [], []

    async def audit(self, prompt, completion):
        self.demonstrations.append(len(prompt.demonstrations))
        self.forms.append(prompt.form)
        return await super().audit(prompt, completion)


class World:
    """Small stages as plugins would offer them, and a gateway's worker over a store."""

    def __init__(self, store, folder):
        self.store, self.folder = store, folder
        self.words, self.second = Judge({"fraud": 0.9}), Judge({"tricky": 0.95})
        self.harm = FixedAuditor("harmful-compliance", word="poison", score=0.7)
        self.strict = FixedAuditor("leak", word="calm", score=0.9)
        self.seen = Watching()
        self.reader = FixedPreScreener(reads="a fraud")
        self.echo = ScriptedBackend({"poison": "take poison", "calm": "a calm answer"})
        stages = {
            "prescreener": {"words": self.words, "second": self.second, "reader": self.reader},
            "auditor": {"harm": self.harm, "strict": self.strict, "watching": self.seen},
            "backend": {"echo": self.echo},
            "injector": {"plain": FixedInjector(), "shows": Showing()},
        }
        self.registry = Registry(
            offers={
                kind: {
                    name: Offer(kind=kind, name=name, distribution="test", version="1", stage=_offer(name, stage))
                    for name, stage in named.items()
                }
                for kind, named in stages.items()
            }
        )
        settings = Settings(data_dir=folder, database_url="", broker_url="", policies_dir=folder)
        self.runtime = Runtime(settings=settings, registry=self.registry, store=store, pipelines={}, stages=())

    async def decide(self, *texts, policy=POLICY, turns=(), **more):
        """Decide as a live gateway would, and log it; gives the ids."""
        loaded = read_policy(policy.encode(), Path("radiology.yaml"), self.registry.configs())
        configs = configs_of(loaded, self.registry)
        stages = {
            (kind, name): Built(name=name, version="1", stage=self._stage(kind, name), config=config)
            for (kind, name), config in configs.items()
        }
        models = {
            name: Built(
                name=spec.stage,
                version="1",
                stage=self._stage("backend", spec.stage),
                config=config_digest(convert(spec.config, Level)),
            )
            for name, spec in loaded.policy.models.items()
        }
        pipeline, caller = (
            Pipeline(loaded, stages, None, models),
            Caller(key="k", department="radiology", roles=("caller",)),
        )
        made = []
        for text in texts:
            asked = request(text, id=f"dec_{len(self.words.asked):02d}{text[:8].strip():x<8}", **more)
            if turns:
                asked = msgspec.structs.replace(asked, turns=(*turns, *asked.turns))
            outcome = await pipeline.run(asked, caller, "/v1/chat/completions")
            made.append((await self.store.decisions.append(outcome)).id)
        return made

    def _stage(self, kind, name):
        return self.registry.offers[kind][name].stage.build(None)

    def candidate(self, text, name="candidate.yaml"):
        file = self.folder / name
        file.write_text(text)
        loaded = load_candidates([file], self.registry.configs())
        return {department: Candidate.of(policy) for department, policy in loaded.items()}

    async def judge(self, text, *fields, caller=OFFICER, limit=None, **options):
        """Make a re-audit, work it off, and give its report with the lines of its files."""
        await self.store.sequencer.catch_up()
        wanted = Options(candidates=self.candidate(text), **options)
        filter_ = parse_filter([("kind", "decision.v1"), ("since", "2026-01-01"), *fields])
        batch, _ = await begin(self.store, self.runtime.settings, filter_, caller, wanted, limit=limit)
        ended = await work_off(self.runtime, batch)
        assert ended.status == "completed"
        report = await report_of(self.store, ended)
        return report, await self.lines(ended.output_file), await self.lines(ended.error_file), ended

    async def lines(self, file):
        if file is None:
            return []
        whole = b"".join([piece async for piece in self.store.files.read(file)])
        return [json.loads(line) for line in whole.splitlines()]

    async def events(self, kind):
        rows = await self.store.decisions.recent(1000, kind=kind.__struct_config__.tag)
        return [row.record for row in reversed(rows)]


def _offer(name, stage):
    return Stage(name, Level if name in ("words", "echo") else NoConfig, lambda _config: stage)


@contextlib.asynccontextmanager
async def world(url, folder):
    store = await Store.open(url, secret=SECRET, keyring=load_keyring(folder), files_dir=folder / "files")
    try:
        yield World(store, folder)
    finally:
        await store.close()
