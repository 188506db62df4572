"""The flow of a request, with real decisions and small stages: who is asked, in what order, and what comes out."""

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.pipeline import Built, Pipeline
from gateway.pipeline.witness import Clock, Witness
from gateway.plugin import (
    Budget,
    Choice,
    Completion,
    Demonstration,
    Finding,
    Image,
    Prompt,
    Request,
    Sampling,
    Screening,
    Text,
    Turn,
)
from gateway.policy.decision import Admit, Refuse, Release, Withhold
from gateway.policy.evidence import Screened, Skipped, StageFailed
from gateway.policy.model import LoadedPolicy, Policy, convert
from gateway.records import NOTHING_SAID, Caller, Context, Outcome
from gateway.records.outcome import Where

CALLER = Caller(key="k", department="radiology", roles=("caller",))
PNG = b"\x89PNG"


class Screen:
    """Gives a risk by text, and looks at every text part; `images` says whether it looks at images too."""

    def __init__(self, risk: dict[str, float] | None = None, *, images: bool = True) -> None:
        self.risk, self.images, self.asked = risk or {}, images, []

    async def screen(self, request: Request) -> Screening:
        self.asked.append(request)
        parts = request.parts() if self.images else request.texts()
        return Screening(
            risk=max((self.risk.get(t.text, 0.0) for t in request.texts()), default=0.0),
            inspected=tuple(p.id for p in parts),
        )


class Reader:
    """Finds text in images."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def screen(self, request: Request) -> Screening:
        images = request.images()
        found = tuple(Text(id=f"{image.id}#ocr", text=self.text) for image in images)
        return Screening(risk=0.0, inspected=tuple(i.id for i in images), found=found)


class Inject:
    def __init__(self) -> None:
        self.budgets: list[Budget] = []

    async def inject(self, request: Request, budget: Budget) -> tuple[Demonstration, ...]:
        self.budgets.append(budget)
        refusing = round(budget.demonstrations * budget.mix)
        return tuple(
            Demonstration(id=f"d{i}", pair=f"p{i}", modality="ct", question="Q?", answer="A.", refuses=i < refusing)
            for i in range(budget.demonstrations)
        )


class Model:
    def __init__(self, *answers: str) -> None:
        self.answers, self.prompts = list(answers), []

    def models(self) -> tuple[str, ...]:
        return ("m",)

    async def complete(self, prompt: Prompt) -> Completion:
        self.prompts.append(prompt)
        text = self.answers.pop(0)
        if text == "FAIL":
            raise RuntimeError(text)
        return Completion(
            model="m",
            choices=tuple(
                Choice(index=i, text=Text(id=f"choices[{i}].content", text=text))
                for i in range(prompt.request.sampling.n)
            ),
        )


class Audit:
    """Finds a refusal in "no", harm in "bad", and a number to redact in "4711"."""

    def __init__(self) -> None:
        self.seen: list[Completion] = []

    async def audit(self, prompt: Prompt, completion: Completion) -> tuple[Finding, ...]:
        self.seen.append(completion)
        (choice,) = completion.choices
        text, part = choice.text.text, choice.text.id
        if text == "no":
            return (Finding(kind="refusal", score=1.0, part=part),)
        if text == "bad":
            return (Finding(kind="harmful-compliance", score=0.9, part=part),)
        at = text.find("4711")
        if at >= 0:
            return (Finding(kind="phi", score=1.0, part=part, start=at, end=at + 4, replacement="[REDACTED]"),)
        return ()


BASE: dict[str, Any] = {
    "department": "radiology",
    "revision": 1,
    "backend": {"stage": "model", "deadline": "1s"},
    "prescreen": [{"stage": "screen"}],
    "demonstrations": {"stage": "inject"},
    "audit": [{"stage": "audit", "on_finding": "withhold"}],
    "tiers": [
        {"below": 0.2, "budget": {"demonstrations": 2, "mix": 0.5}},
        {"below": 0.9, "budget": {"demonstrations": 4, "mix": 0.5}},
    ],
    "over_defense": {"retry": {"demonstrations": 8, "mix": 0.25}},
}


def make(
    model: Any, *, screens: dict[str, Any] | None = None, audit: Any = None, inject: Any = None, **changes: Any
) -> Pipeline:
    policy = convert(BASE | changes, Policy)
    stages: dict[Any, Built] = {
        ("prescreener", name): Built(name=name, version="1", stage=s)
        for name, s in (screens or {"screen": Screen()}).items()
    }
    stages["backend", "model"] = Built(name="model", version="1", stage=model)
    stages["injector", "inject"] = Built(name="inject", version="1", stage=inject or Inject())
    stages["auditor", "audit"] = Built(name="audit", version="1", stage=audit or Audit())
    return Pipeline(LoadedPolicy(policy=policy, digest="0" * 64, path="radiology.yaml"), stages)


def ask(*parts: Any, n: int = 1) -> Request:
    return Request(
        id="dec_1", department="radiology", model="m", turns=(Turn(role="user", parts=parts),), sampling=Sampling(n=n)
    )


def text(words: str, place: int = 0) -> Text:
    return Text(id=f"messages[0].content[{place}]", text=words)


def image(place: int = 1) -> Image:
    return Image(
        id=f"messages[0].content[{place}]",
        data=PNG,
        media_type="image/png",
        width=1,
        height=1,
        digest="0",
        source="png",
    )


async def run(pipeline: Pipeline, request: Request) -> Outcome:
    return await pipeline.run(request, CALLER, "/v1/chat/completions")


async def test_risk_buys_demonstrations_before_the_question() -> None:
    for risk, count in ((0.1, 2), (0.5, 4)):
        model = Model("fine")
        outcome = await run(make(model, screens={"screen": Screen({"q": risk})}), ask(text("q")))
        assert outcome.word == "released" and isinstance(outcome.admission, Admit)
        chat = model.prompts[0].chat()
        assert len(chat) == 2 * count + 1 and chat[-1].parts[0].text == "q"
        assert outcome.answer is not None and outcome.answer.choices[0].text.text == "fine"


async def test_what_was_said_and_where_and_by_which_clock_goes_with_every_outcome() -> None:
    where = Where(instance="i", host="h", process="p")
    clock = Clock(wall=lambda: 2.0, steady=lambda: 1.0, ask=lambda: "unsynchronised")
    bare = make(Model("fine", "fine"), screens={"screen": Screen({"evil": 0.95})})
    stages = {
        place: msgspec.structs.replace(built, config=f"digest of {built.name}") for place, built in bare._stages.items()
    }
    stages["injector", "inject"] = bare._stages["injector", "inject"]
    pipeline = Pipeline(bare.loaded, stages, Witness(where, clock))
    said = Context(purpose="TREAT", patient="MRN 1")
    for words in ("q", "evil"):
        outcome = await pipeline.run(ask(text(words)), CALLER, "/v1/chat/completions", context=said)
        assert (outcome.context, outcome.where, outcome.clock, outcome.mode) == (
            said, where, "unsynchronised", "enforced",
        )  # fmt: skip
        assert outcome.configs == {
            ("prescreener", "screen"): "digest of screen",
            ("backend", "model"): "digest of model",
            ("auditor", "audit"): "digest of audit",
        }
    screened = await pipeline.moderate(ask(text("q")), CALLER, "/v1/moderations", context=said)
    assert (screened.context, screened.where) == (said, where)
    plain = await run(bare, ask(text("q")))
    assert (plain.context, plain.where, plain.clock, plain.configs) == (NOTHING_SAID, None, None, {})


async def test_too_much_risk_never_reaches_the_model() -> None:
    model = Model("fine")
    outcome = await run(make(model, screens={"screen": Screen({"q": 0.95})}), ask(text("q")))
    assert isinstance(outcome.final, Refuse) and outcome.answer is None and not model.prompts


async def test_demonstrations_stand_after_system_turns_and_before_everything_else() -> None:
    model = Model("fine")
    turns = (
        Turn(role="system", parts=(Text(id="messages[0].content", text="s"),)),
        Turn(role="user", parts=(Text(id="messages[1].content", text="q"),)),
    )
    request = msgspec.structs.replace(ask(), turns=turns)
    await run(make(model), request)
    assert [t.role for t in model.prompts[0].chat()] == ["system", "user", "assistant", "user", "assistant", "user"]


async def test_text_found_in_an_image_is_judged_like_the_users() -> None:
    screen = Screen({"drawn attack": 0.99}, images=False)
    model = Model("fine")
    pipeline = make(
        model,
        screens={"screen": screen, "reader": Reader("drawn attack")},
        prescreen=[{"stage": "screen"}, {"stage": "reader"}],
    )
    outcome = await run(pipeline, ask(text("what is this?"), image()))
    assert isinstance(outcome.final, Refuse) and not model.prompts
    assert [len(r.parts()) for r in screen.asked] == [2, 1]
    assert screen.asked[1].turns[0].role == "user"
    rows = {row.part: row.by for row in outcome.coverage}
    assert rows["messages[0].content[1]#ocr"] == ("screen",) and rows["messages[0].content[1]"] == ("reader",)
    assert [e.round for e in outcome.screening if isinstance(e, Screened)] == ["request", "request", "found"]


async def test_the_model_is_told_what_text_was_found_in_an_image() -> None:
    model = Model("fine")
    pipeline = make(
        model,
        screens={"screen": Screen(images=False), "reader": Reader("kVp 120")},
        prescreen=[{"stage": "screen"}, {"stage": "reader"}],
    )
    await run(pipeline, ask(text("what is this?"), image()))
    assert [(t.id, t.text) for t in model.prompts[0].found] == [("messages[0].content[1]#ocr", "kVp 120")]


async def test_an_image_that_nobody_looked_at_refuses() -> None:
    pipeline = make(Model("fine"), screens={"screen": Screen(images=False)})
    outcome = await run(pipeline, ask(text("q"), image()))
    assert isinstance(outcome.final, Refuse)
    assert [r.code for r in outcome.final.reasons] == ["uninspected"]


async def test_refusal_of_a_benign_question_is_asked_again_once() -> None:
    model, inject = Model("no", "here it is"), Inject()
    outcome = await run(make(model, inject=inject), ask(text("q")))
    assert outcome.word == "released" and outcome.answer is not None
    assert outcome.answer.choices[0].text.text == "here it is"
    assert [b.demonstrations for b in inject.budgets] == [2, 8] and len(outcome.attempts) == 2


async def test_a_second_refusal_leaves_as_the_models_own_words() -> None:
    model = Model("no", "no")
    outcome = await run(make(model), ask(text("q")))
    assert outcome.word == "released" and outcome.answer is not None and outcome.answer.choices[0].text.text == "no"
    assert len(model.prompts) == 2


async def test_no_retry_where_the_question_is_not_benign() -> None:
    model = Model("no", "here it is")
    outcome = await run(make(model, screens={"screen": Screen({"q": 0.5})}), ask(text("q")))
    assert len(model.prompts) == 1 and outcome.word == "released"


async def test_a_retry_that_breaks_down_falls_back_to_the_audited_refusal() -> None:
    outcome = await run(make(Model("no", "FAIL")), ask(text("q")))
    assert isinstance(outcome.final, Release) and outcome.answer is not None
    assert outcome.answer.choices[0].text.text == "no"
    assert isinstance(outcome.attempts[1].completed, StageFailed)


async def test_harm_in_any_choice_withholds_and_each_choice_is_audited_alone() -> None:
    audit = Audit()
    outcome = await run(make(Model("bad"), audit=audit), ask(text("q"), n=3))
    assert isinstance(outcome.final, Withhold) and outcome.answer is None
    assert [c.choices[0].index for c in audit.seen] == [0, 1, 2]


async def test_redaction() -> None:
    pipeline = make(Model("id 4711 ok"), audit=Audit())
    redacting = make(Model("id 4711 ok"), audit=Audit())
    redacting.policy = convert(BASE | {"audit": [{"stage": "audit", "on_finding": "redact"}]}, Policy)
    assert (await run(pipeline, ask(text("q")))).word == "withheld"
    outcome = await run(redacting, ask(text("q")))
    assert outcome.answer is not None and outcome.answer.choices[0].text.text == "id [REDACTED] ok"


async def test_a_model_that_fails_is_withheld() -> None:
    outcome = await run(make(Model("FAIL")), ask(text("q")))
    assert isinstance(outcome.final, Withhold) and outcome.final.reasons[0].code == "model-failed"
    assert outcome.final.reasons[0].cause == "raised:RuntimeError"


async def test_an_injector_that_gives_nothing_is_a_failure() -> None:
    class Empty:
        async def inject(self, request: Request, budget: Budget) -> tuple[Demonstration, ...]:
            return ()

    model = Model("fine", "fine")
    outcome = await run(make(model, inject=Empty()), ask(text("q")))
    assert outcome.word == "withheld" and not model.prompts
    excused = {"stage": "inject", "allow_if_unavailable": True}
    outcome = await run(make(model, inject=Empty(), demonstrations=excused), ask(text("q")))
    assert outcome.word == "released" and isinstance(outcome.attempts[0].injected, StageFailed)


async def test_the_requests_deadline_bounds_every_stage() -> None:
    class Slow(Screen):
        async def screen(self, request: Request) -> Screening:
            await asyncio.sleep(5)
            return await super().screen(request)

    outcome = await asyncio.wait_for(
        run(make(Model("fine"), screens={"screen": Slow()}, deadline="200ms"), ask(text("q"))), 2
    )
    assert isinstance(outcome.final, Refuse)
    assert isinstance(outcome.screening[0], StageFailed) and outcome.screening[0].cause == "deadline"


@pytest.mark.parametrize("removed", ["a", "b", "c"])
async def test_removing_the_word_of_any_one_check_refuses(removed: str) -> None:
    class Silent:
        async def screen(self, request: Request) -> None:
            return None

    screens = {name: Silent() if name == removed else Screen() for name in "abc"}
    outcome = await run(make(Model("fine"), screens=screens, prescreen=[{"stage": s} for s in "abc"]), ask(text("q")))
    assert isinstance(outcome.final, Refuse) and outcome.final.reasons[0].stage == removed


async def test_a_second_opinion_is_asked_in_its_band_alone() -> None:
    prescreen = [{"stage": "screen"}, {"stage": "second", "between": [0.2, 0.9]}]
    for risk, asked in ((0.1, 0), (0.5, 1), (0.95, 0)):
        second = Screen({"q": 0.97})
        screens = {"screen": Screen({"q": risk}), "second": second}
        outcome = await run(make(Model("fine"), screens=screens, prescreen=prescreen), ask(text("q")))
        assert len(second.asked) == asked
        assert outcome.word == ("released" if risk < 0.2 else "refused")
        assert any(isinstance(word, Skipped) for word in outcome.screening) is (asked == 0)


async def test_a_second_opinion_also_judges_the_text_found_in_images() -> None:
    prescreen = [{"stage": "screen"}, {"stage": "reader"}, {"stage": "second", "between": [0.2, 0.9]}]
    second = Screen({"hidden": 0.97})
    screens = {"screen": Screen({"q": 0.1, "hidden": 0.4}), "reader": Reader("hidden"), "second": second}
    outcome = await run(make(Model("fine"), screens=screens, prescreen=prescreen), ask(text("q"), image()))
    assert [request.texts()[0].text for request in second.asked] == ["q", "hidden"]
    assert outcome.word == "refused"


async def test_a_second_opinion_that_fails_refuses() -> None:
    class Broken:
        async def screen(self, request: Request) -> Screening:
            raise RuntimeError("q")

    prescreen = [{"stage": "screen"}, {"stage": "second", "between": [0.2, 0.9]}]
    screens = {"screen": Screen({"q": 0.5}), "second": Broken()}
    outcome = await run(make(Model("fine"), screens=screens, prescreen=prescreen), ask(text("q")))
    assert isinstance(outcome.final, Refuse) and [r.code for r in outcome.final.reasons] == ["stage-failed"]
