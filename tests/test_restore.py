"""Records read back as evidence and judged again: as the policy that made them did, and as another one would have."""

import asyncio
import hashlib

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from store.kit import SECRET, outcomes

from gateway.pipeline import Built, Pipeline
from gateway.pipeline.ending import final_of
from gateway.policy.decide import admit, release
from gateway.policy.decision import Admit, Reason, Refuse, Retry
from gateway.policy.model import (
    AuditSpec,
    BackendSpec,
    BudgetSpec,
    DemonstrationsSpec,
    LoadedPolicy,
    OverDefense,
    Policy,
    PrescreenSpec,
    Tier,
)
from gateway.policy.replay import replay
from gateway.records import Caller, Digester, canonical, parse, record_of
from gateway.records.restore import codes, restored
from gateway.testing import FixedInjector, image, request
from gateway.values import Choice, Completion, Finding, Sampling, Score, Screening, Text, ToolCall

CALLER = Caller(key="k", department="radiology", roles=("caller",))
DIGESTER = Digester(SECRET)
ASKED = request("Is there a fracture?", images=(image(8, 8),), id="dec_1")
TWICE = msgspec.structs.replace(ASKED, sampling=Sampling(n=2))
SCREENS = ("a", "b", "reader", "glance")
AUDITORS = ("x", "y")
SHARES = st.sampled_from((0.0, 0.2, 0.5, 0.8, 1.0))


def drawn(*parts):
    """Give a number in 0..1 that is the same for the same parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:2], "big") / 65535


class Screen:
    """Judges by its seed and the parts it looks at, so that another set of texts gets another risk."""

    def __init__(self, name, seed, *, finds, fails, looks):
        self.name, self.seed, self.finds, self.fails, self.looks = name, seed, finds, fails, looks

    async def screen(self, request):
        again = any("#" in part.id for part in request.parts())
        parts = sorted(p.id for p in request.parts() if self.looks or not p.id.endswith(("#reader", "content[1]")))
        if self.fails == ("found" if again else "request"):
            raise ValueError("broken")
        found = tuple(Text(id=f"{one.id}#{self.name}", text="seen") for one in request.images()) if self.finds else ()
        draw = drawn(self.seed, parts)
        kinds = ("jailbreak",) if draw > 0.7 and parts else ()
        return Screening(
            risk=drawn(self.seed, "risk", parts) ** 2,
            inspected=tuple(parts),
            scores=(Score(label=f"harm-{self.name}", value=draw),),
            found=found,
            findings=tuple(Finding(kind=kind, score=draw, part=parts[0]) for kind in kinds),
            clinical=None if self.seed % 3 else drawn(self.seed, "clinical", parts),
        )


class Model:
    """Answers the first time and the second by a script; `None` fails."""

    def __init__(self, answers):
        self.answers = list(answers)

    def models(self):
        return ("m",)

    async def complete(self, prompt):
        text = self.answers.pop(0)
        if text is None:
            raise RuntimeError("away")
        name = Text(id="choices[0].tool_calls[0].function.name", text="look")
        arguments = Text(id="choices[0].tool_calls[0].function.arguments", text="{}")
        calls = (ToolCall(id="call_0", name=name, arguments=arguments),)
        return Completion(
            model="m",
            choices=tuple(
                Choice(index=i, text=Text(id=f"choices[{i}].content", text=text), tool_calls=() if i else calls)
                for i in range(prompt.request.sampling.n)
            ),
        )


class Audit:
    """Finds by its seed and the answer; `fails` on one choice."""

    def __init__(self, name, seed, *, fails):
        self.name, self.seed, self.fails = name, seed, fails

    async def audit(self, prompt, completion):
        (choice,) = completion.choices
        if self.fails == choice.index:
            raise ValueError("broken")
        found = []
        if choice.text.text.startswith("no"):
            found.append(Finding(kind="refusal", score=0.9, part=choice.text.id))
        for number, text in enumerate(choice.texts()):
            draw = drawn(self.seed, number, text.text)
            if draw > 0.6:
                continue
            span = (None, None) if draw < 0.05 else (0, 2)
            put = None if draw < 0.15 else text.text[:2] if draw < 0.2 else "##"
            kind = "phi" if draw < 0.4 else "leak"
            score = drawn(self.seed, "score", text.text)
            found.append(Finding(kind=kind, score=score, part=text.id, start=span[0], end=span[1], replacement=put))
        return tuple(found)


class Injector(FixedInjector):
    def __init__(self, *, fails):
        self.fails = fails

    async def inject(self, request, budget):
        if self.fails:
            raise ValueError("broken")
        return await super().inject(request, budget)


@st.composite
def policies(draw):
    """Draw a policy of some of the stages."""
    names = draw(st.lists(st.sampled_from(SCREENS), min_size=1, max_size=4, unique=True))
    bands = draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))
    screens = [
        PrescreenSpec(
            stage=name,
            on_finding=draw(st.sampled_from(("refuse", "last_tier", "note"))),
            threshold=draw(SHARES),
            between=(0.1, 0.6) if second and place else None,
            allow_if_unavailable=draw(st.booleans()),
        )
        for place, (name, second) in enumerate(zip(names, bands, strict=True))
    ]
    audits = [
        AuditSpec(
            stage=name,
            on_finding=draw(st.sampled_from(("withhold", "redact", "note"))),
            threshold=draw(SHARES),
            allow_if_unavailable=draw(st.booleans()),
        )
        for name in draw(st.lists(st.sampled_from(AUDITORS), min_size=1, max_size=2, unique=True))
    ]
    low = draw(st.sampled_from((0.05, 0.3, 0.6)))
    return Policy(
        department="radiology",
        revision=1,
        backend=BackendSpec(stage="model"),
        prescreen=tuple(screens),
        audit=tuple(audits),
        tiers=(
            Tier(below=low, budget=BudgetSpec(demonstrations=draw(st.sampled_from((0, 2))))),
            Tier(below=draw(st.sampled_from((0.7, 1.0))), budget=BudgetSpec(demonstrations=4)),
        ),
        demonstrations=draw(st.none() | st.booleans().map(lambda b: _injects(b))),
        over_defense=draw(st.none() | st.just(OverDefense(retry=BudgetSpec(demonstrations=6)))),
        uninspected=draw(st.sampled_from(("refuse", "allow_uninspected", "allow_uninspected"))),
        scope=draw(st.sampled_from(("any", "any", "clinical"))),
    )


def _injects(excused):
    return DemonstrationsSpec(stage="injector", allow_if_unavailable=excused)


ANSWERS = st.lists(st.sampled_from(("no, never", "a calm answer", "another", None)), min_size=2, max_size=2)


@st.composite
def worlds(draw):
    """Draw how each stage behaves, whoever asks it."""
    seeds = draw(st.lists(st.integers(0, 500), min_size=6, max_size=6))
    stages = {}
    for name, seed in zip(SCREENS, seeds, strict=False):
        fails = draw(st.sampled_from((None, None, None, None, "request", "found")))
        finds = name in ("reader", "glance") and draw(st.booleans())
        stages["prescreener", name] = Screen(name, seed, finds=finds, fails=fails, looks=draw(st.booleans()))
    for name, seed in zip(AUDITORS, seeds[4:], strict=True):
        stages["auditor", name] = Audit(name, seed, fails=draw(st.sampled_from((None, None, None, 0, 1))))
    stages["injector", "injector"] = Injector(fails=draw(st.sampled_from((False, False, True))))
    return stages, draw(ANSWERS), draw(st.sampled_from((ASKED, TWICE)))


def decided(policy, world, *, screen=False):
    """Take the request all the way under a policy, and give the outcome."""
    stages, answers, asked = world
    built = {place: Built(name=place[1], version="1", stage=stage) for place, stage in stages.items()}
    built["backend", "model"] = Built(name="model", version="1", stage=Model(answers))
    pipeline = Pipeline(LoadedPolicy(policy=policy, digest="d", path="p"), built)
    way = pipeline.moderate if screen else pipeline.run
    return asyncio.run(way(asked, CALLER, "/v1/moderations" if screen else "/v1/chat/completions"))


def recorded(outcome):
    return parse(canonical(record_of(outcome, DIGESTER)))


@settings(max_examples=150, deadline=None)
@given(policies(), worlds(), st.booleans())
def test_the_policy_that_decided_decides_the_same_again(policy, world, screen):
    outcome = decided(policy, world, screen=screen)
    judged = replay(policy, restored(recorded(outcome)))
    assert (judged.after, judged.rule) == (outcome.word, outcome.final.rule)
    assert codes(judged.reasons) == codes(getattr(outcome.final, "reasons", ()))
    assert judged.caveats == ()


@settings(max_examples=250, deadline=None)
@given(policies(), policies(), worlds())
def test_another_policy_is_never_told_to_decide_otherwise_than_it_does(before, candidate, world):
    """The truth is had by letting the same stages decide under the candidate."""
    then, truth = decided(before, world), decided(candidate, world)
    judged = replay(candidate, restored(recorded(then)))
    if judged.after == "unknown":
        return
    if judged.after == "asked":
        assert truth.attempts
        assert len(then.attempts) < 2
        return
    if "demonstrations" in judged.caveats and world[0]["injector", "injector"].fails:
        return  # nobody could know that the candidate's injector would have failed, and the caveat says so
    assert judged.after == truth.word
    if judged.after == "refused":
        told, real = {one.code for one in judged.reasons}, {one.code for one in truth.final.reasons}
        assert told <= real


def _names(policy):
    return {spec.stage for spec in policy.prescreen}, {spec.stage for spec in policy.audit}


@settings(max_examples=100, deadline=None)
@given(policies(), policies(), worlds())
def test_what_is_known_of_all_stages_is_never_unknown(before, candidate, world):
    """Where the stages and what calls for them are the same, evidence tells all but what a redaction would put."""
    candidate = msgspec.structs.replace(
        candidate,
        prescreen=tuple(
            msgspec.structs.replace(one, threshold=other.threshold, on_finding=other.on_finding)
            for one, other in zip(before.prescreen, candidate.prescreen * 4, strict=False)
        ),
        audit=tuple(msgspec.structs.replace(one, threshold=0.3) for one in before.audit),
    )
    judged = replay(candidate, restored(recorded(decided(before, world))))
    assert judged.after != "unknown" or {one.code for one in judged.reasons} == {"replacement-unknown"}


SAMPLES = (
    outcomes.refused(),
    outcomes.withheld("a question", "an answer"),
    outcomes.released(),
    outcomes.released(image=b"\x89PNG"),
)


def _decided_by(policy, outcome):
    """Let a policy decide on the evidence of a sample, as the pipeline does."""
    admission = admit(policy, outcome.screening, outcome.coverage)
    made = msgspec.structs.replace(outcome, admission=admission, attempts=(), final=admission, answer=None)
    if isinstance(admission, Refuse) or not outcome.attempts:
        return made
    attempts = []
    for number, one in enumerate(outcome.attempts):
        verdict = release(policy, admission, one.completed.completion, one.audits, number)
        attempts.append(msgspec.structs.replace(one, verdict=verdict))
        if not isinstance(verdict, Retry):
            break
    final, answer = final_of(policy, admission, tuple(attempts))
    return msgspec.structs.replace(made, attempts=tuple(attempts), final=final, answer=answer)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SAMPLES), SHARES, SHARES, st.floats(0.01, 1.0), st.sampled_from(("withhold", "redact", "note")),
    st.booleans(),
)  # fmt: skip
def test_the_samples_come_to_the_same_under_the_policy_that_decides_them(sample, low, high, below, how, again):
    policy = _policy(
        audit=(AuditSpec(stage="refusal", threshold=low), AuditSpec(stage="phi", threshold=high, on_finding=how)),
        tiers=(Tier(below=below, budget=BudgetSpec(demonstrations=2)),),
        over_defense=OverDefense(retry=BudgetSpec(demonstrations=4)) if again else None,
    )
    loaded = msgspec.structs.replace(sample.policy, policy=policy)
    outcome = _decided_by(policy, msgspec.structs.replace(sample, policy=loaded))
    judged = replay(policy, restored(recorded(outcome)))
    if isinstance(outcome.final, Admit):
        assert judged.after == "asked"  # a sample that was refused has no answer
    elif len(outcome.attempts) == 1 and isinstance(outcome.attempts[0].verdict, Retry):
        assert judged.after == "asked"
    else:
        assert (judged.after, judged.rule) == (outcome.word, outcome.final.rule)


def _policy(**changes):
    return msgspec.structs.replace(outcomes.POLICY.policy, **changes)


def _after(record, policy, **more):
    judged = replay(policy, restored(record, **more))
    return judged.after, judged.rule, codes(judged.reasons)


@pytest.fixture
def answered():
    """A decision that was answered: risk 0.031, one finding of `phi` that was replaced."""
    outcome = outcomes.released()
    last = msgspec.structs.replace(outcome.attempts[1], audits=tuple(_first(w) for w in outcome.attempts[1].audits))
    return recorded(msgspec.structs.replace(outcome, attempts=(last,)))


def _first(word):
    return msgspec.structs.replace(word, attempt=0)


def test_a_lower_threshold_refuses_what_lies_above_it_and_no_more(answered):
    spec = outcomes.POLICY.policy.tiers[0]
    for below, after in ((0.031, "refused"), (0.0311, "released"), (0.01, "refused"), (1.0, "released")):
        tiers = (msgspec.structs.replace(spec, below=below),)
        assert _after(answered, _policy(tiers=tiers))[0] == after
    assert _after(answered, _policy(tiers=(msgspec.structs.replace(spec, below=0.03),)))[1:] == (
        "tiers",
        ("risk:insurance-fraud",),
    )


def test_a_stage_that_the_record_has_no_word_of_leaves_the_outcome_unknown(answered):
    policy = _policy(prescreen=(*outcomes.POLICY.policy.prescreen, PrescreenSpec(stage="modality")))
    assert _after(answered, policy) == ("unknown", "prescreen[2]", ("stage-missing:modality",))
    policy = _policy(audit=(*outcomes.POLICY.policy.audit, AuditSpec(stage="leak")))
    assert _after(answered, policy) == ("unknown", "audit[2]", ("stage-missing:leak",))


def test_it_is_known_where_what_others_said_refuses_or_withholds_by_itself(answered):
    low = (msgspec.structs.replace(outcomes.POLICY.policy.tiers[0], below=0.01),)
    policy = _policy(prescreen=(*outcomes.POLICY.policy.prescreen, PrescreenSpec(stage="modality")), tiers=low)
    assert _after(answered, policy) == ("refused", "tiers", ("risk:insurance-fraud",))
    policy = _policy(audit=(AuditSpec(stage="leak"), AuditSpec(stage="refusal"), AuditSpec(stage="phi")))
    assert _after(answered, policy) == ("withheld", "audit[2]", ("finding:phi",))


def test_stages_that_the_candidate_drops_do_not_count():
    refused = recorded(outcomes.refused())
    before = _policy(tiers=(Tier(below=1.0, budget=BudgetSpec(demonstrations=0)),))
    assert _after(refused, before) == ("refused", "prescreen[1]", ("stage-failed:image-text",))
    assert _after(refused, msgspec.structs.replace(before, prescreen=before.prescreen[:1])) == ("asked", "tiers[0]", ())


def test_a_word_of_a_stage_that_was_configured_otherwise_is_not_the_candidates(answered):
    configs = {("prescreener", "intent"): "another", ("auditor", "phi"): "another"}
    assert _after(answered, _policy(), configs=configs) == ("unknown", "prescreen[0]", ("other-config:intent",))
    del configs["prescreener", "intent"]
    assert _after(answered, _policy(), configs=configs) == ("unknown", "audit[1]", ("other-config:phi",))
    assert _after(answered, _policy(), configs=configs, other_too=True)[0] == "released"
    same = {("prescreener", "intent"): answered.screening[0].config}
    assert _after(answered, _policy(), configs=same)[0] == "released"


def test_a_replacement_is_known_only_where_one_was_made(answered):
    findings = answered.attempts[0].audits[1].findings
    noted = msgspec.structs.replace(answered.attempts[0].verdict, redactions=())
    attempt = msgspec.structs.replace(answered.attempts[0], verdict=noted)
    unsaid = msgspec.structs.replace(answered, attempts=(attempt,), final=noted)
    assert findings[0].kind == "phi"
    assert _after(unsaid, _policy()) == ("unknown", "audit[1]", ("replacement-unknown:phi",))
    lenient = _policy(audit=(AuditSpec(stage="refusal"), AuditSpec(stage="phi", on_finding="redact", threshold=0.9)))
    assert _after(unsaid, lenient)[0] == "released"


def test_what_the_answer_might_have_depended_on_is_told(answered):
    spent = BudgetSpec(demonstrations=4, mix=0.25, tokens=900, images=4)
    tier = msgspec.structs.replace(outcomes.POLICY.policy.tiers[0], budget=spent)
    same = _policy(demonstrations=DemonstrationsSpec(stage="clinical"), tiers=(tier,))

    def caveats(configs=None, **changes):
        return replay(msgspec.structs.replace(same, **changes), restored(answered, configs)).caveats

    assert caveats() == ()
    assert caveats(tiers=outcomes.POLICY.policy.tiers) == ("budget",)
    assert caveats(demonstrations=None) == caveats({("injector", "clinical"): "another"}) == ("demonstrations",)
    assert caveats(backend=BackendSpec(stage="openai")) == ("model",)
    assert caveats({("backend", "transformers"): "another"}) == ("model",)


@given(st.lists(st.builds(Reason, code=st.sampled_from("ab"), label=st.sampled_from((None, "l")), stage=st.just("s"))))
@example([])
def test_reasons_are_written_once_each(reasons):
    written = codes(tuple(reasons))
    assert set(written) == {f"{one.code}:{one.label or 's'}" for one in reasons}
    assert len(written) == len(set(written))
