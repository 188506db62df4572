"""Answers that leave window by window: whatever the chunks, what leaves is a prefix of what was audited."""

import asyncio
import itertools
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import Unavailable
from gateway.pipeline import Built, Pipeline
from gateway.pipeline.gone import Gone
from gateway.pipeline.leaving import LateFinding, Leaving
from gateway.pipeline.windowed import CallerGone
from gateway.plugin import Choice, Completion, Ended, Finding, Piece, Sampling, Text, Usage, Window
from gateway.policy.decision import Admit, Redaction, Release, Withhold
from gateway.policy.evidence import StageFailed
from gateway.policy.model import LoadedPolicy, Policy, convert
from gateway.records import Caller, Completed
from gateway.testing import FixedPreScreener, request

CALLER = Caller(key="k", department="radiology", roles=("caller",))
LONGEST = 12
SECRET = re.compile(r"#\d{1,10}#")
"""What is to be replaced: at most `LONGEST` characters, and the beginning alone gives nothing away of where it ends."""

POLICY = {
    "department": "radiology",
    "revision": 1,
    "stream": "windowed",
    "backend": {"stage": "model", "deadline": "20s"},
    "prescreen": [{"stage": "screen"}],
    "audit": [{"stage": "secrets", "on_finding": "redact"}, {"stage": "banned"}],
    "tiers": [{"below": 0.5, "budget": {"demonstrations": 0}}],
}


class Finds:
    """Finds a pattern; `characters` is what it declares to need, None where it declares nothing."""

    def __init__(self, pattern, kind, characters=LONGEST, overlap=40, replacement=None):
        self.pattern, self.kind, self.replacement = pattern, kind, replacement
        self.shown = []
        if characters is not None:
            self.window = lambda: Window(characters=characters, overlap=overlap)

    async def audit(self, prompt, completion):
        texts = [text for choice in completion.choices for text in choice.texts()]
        self.shown += [text.text for text in texts]
        return tuple(
            Finding(kind=self.kind, score=1.0, part=t.id, start=m.start(), end=m.end(), replacement=self.replacement)
            for t in texts
            for m in self.pattern.finditer(t.text)
        )


class Chunks:
    """Streams `pieces` in turn, `pause` seconds apart; an exception is raised, and an event is waited for."""

    def __init__(self, pieces, pause=0.0):
        self.pieces, self.pause = pieces, pause
        self.closed = False
        self.given = 0

    def models(self):
        return ("m",)

    async def complete(self, prompt):
        texts = {}
        for piece in self.pieces:
            if isinstance(piece, Piece):
                texts[piece.choice] = texts.get(piece.choice, "") + piece.text
        choices = (Choice(index=i, text=Text(id=f"choices[{i}].content", text=t)) for i, t in sorted(texts.items()))
        return Completion(model="m", choices=tuple(choices))

    async def stream(self, prompt):
        try:
            for piece in self.pieces:
                self.given += 1
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                    continue
                await asyncio.sleep(self.pause)
                yield piece
        finally:
            self.closed = True


def ended(n=1):
    return [*(Piece(choice=i, finish_reason="stop") for i in range(n)), Ended(model="m", usage=Usage(prompt_tokens=3))]


def pipeline(model, secrets=None, banned=None, **changes):
    policy = LoadedPolicy(policy=convert({**POLICY, **changes}, Policy), digest="d", path="p")
    secrets = secrets or Finds(SECRET, "phi", replacement="[gone]")
    banned = banned or Finds(re.compile("FORBIDDEN"), "banned")
    stages = {
        ("backend", "model"): model,
        ("prescreener", "screen"): FixedPreScreener(0.0),
        ("auditor", "secrets"): secrets,
        ("auditor", "banned"): banned,
    }
    return Pipeline(policy, {k: Built(name=k[1], version="1", stage=v) for k, v in stages.items()})


class Taker:
    """Takes what leaves. It goes away after `goes` pieces; `fails` is raised in place of the first."""

    def __init__(self, goes=None, fails=None):
        self.goes, self.fails = goes, fails
        self.got = {}
        self.pieces = 0
        self.hold_back = None
        self.gone = Gone()

    def opening(self, screened, hold_back):
        assert isinstance(screened.final, Admit)
        self.hold_back = hold_back

        async def leave(left):
            if self.fails is not None:
                raise self.fails
            if self.pieces == self.goes:
                self.gone.tell()
                raise CallerGone
            self.pieces += 1
            assert left.text
            self.got[left.choice] = self.got.get(left.choice, "") + left.text

        return leave


async def ask(made, caller=None, n=1, **fields):
    caller = caller or Taker()
    asked = request("What is seen?")
    sampling = Sampling(n=n, **fields)
    asked = type(asked)(
        **{name: getattr(asked, name) for name in asked.__struct_fields__} | {"stream": True, "sampling": sampling}
    )
    outcome = await made.run(asked, CALLER, "chat", gone=caller.gone, opening=caller.opening)
    return caller, outcome


TEXTS = st.lists(
    st.sampled_from(["a ", "word ", "#", "#1", "23", "#12345#", "#1#", "4567890123", "line\n", "é", "x" * 30]),
    max_size=30,
).map("".join)


def cut(text, places):
    """Cut a text at `places`, which are shares of its length in thousandths."""
    ends = sorted({len(text) * place // 1000 for place in places} | {0, len(text)})
    return [text[a:b] for a, b in itertools.pairwise(ends)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXTS, min_size=1, max_size=3), st.lists(st.integers(0, 1000), max_size=25), st.randoms())
def test_what_leaves_is_a_prefix_of_what_was_released_and_no_secret_leaves_in_part(texts, places, draw):
    pieces = [Piece(choice=i, text=t) for i, text in enumerate(texts) for t in cut(text, places)]
    order = sorted(range(len(pieces)), key=lambda _: draw.random())
    by_choice = {i: iter([p for p in pieces if p.choice == i]) for i in range(len(texts))}
    model = Chunks([next(by_choice[pieces[at].choice]) for at in order] + ended(len(texts)))

    async def run():
        return await ask(pipeline(model), n=len(texts))

    caller, outcome = asyncio.run(run())
    assert isinstance(outcome.final, Release)
    for index, text in enumerate(texts):
        whole = SECRET.sub("[gone]", text)
        said = outcome.answer.choices[index].text.text
        assert said == whole
        assert whole.startswith(caller.got.get(index, ""))
    assert model.closed
    assert (outcome.streamed.mode == "windowed") == bool(caller.got)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 1000), max_size=20), st.integers(LONGEST, 40))
def test_a_growing_text_leaves_as_it_would_whole(text, places, hold_back):
    leaving, out, so_far = Leaving(), "", ""

    def spans(of):
        return [
            Redaction(choice=0, part="p", start=m.start(), end=m.end(), replacement="[gone]", label="x")
            for m in SECRET.finditer(of)
        ]

    for piece in cut(text, places):
        so_far += piece
        out += leaving.advance(so_far, spans(so_far), hold_back)
        assert leaving.left <= max(0, len(so_far) - hold_back)
        assert SECRET.sub("[gone]", text).startswith(out)
        assert leaving.said == out
    out += leaving.finish(text, spans(text))
    assert out == SECRET.sub("[gone]", text)


def test_a_span_that_was_not_seen_in_time_is_late():
    leaving = Leaving()
    assert leaving.advance("abcdefgh", [], 2) == "abcdef"
    span = Redaction(choice=0, part="p", start=4, end=7, replacement="", label="x")
    assert leaving.late([span])
    with pytest.raises(LateFinding):
        leaving.advance("abcdefghij", [span], 2)
    with pytest.raises(LateFinding):
        leaving.finish("abcdefghij", [span])
    assert leaving.said == "abcdef"


LONG = "The lungs are clear and the heart is of normal size. " * 6


async def test_a_late_finding_ends_the_answer_and_what_left_is_recorded():
    text = LONG + "FORBIDDEN and so on"
    model = Chunks([Piece(text=t) for t in re.findall(r"\S+\s?", text)] + ended())
    caller, outcome = await ask(pipeline(model))
    assert isinstance(outcome.final, Withhold)
    assert outcome.final.reasons[0].label == "banned"
    assert outcome.streamed.ended == "finding"
    assert outcome.answer.choices[0].text.text == caller.got[0]
    assert caller.got[0]
    assert LONG.startswith(caller.got[0])
    assert "FORB" not in caller.got[0]
    attempt = outcome.attempts[0]
    assert isinstance(attempt.completed, Completed)
    assert attempt.verdict == outcome.final


async def test_an_auditor_whose_window_is_too_small_ends_the_answer_when_the_whole_shows_it():
    secret, late = "#" + "7" * 9 + "#", 0
    for before in range(48):  # the auditors look every so many characters: some of these looks fall into the secret
        lies = Finds(SECRET, "phi", characters=1, overlap=1, replacement="[gone]")
        narrow = Finds(re.compile("FORBIDDEN"), "banned", characters=1, overlap=1)
        pieces = [Piece(text=t) for t in (*LONG[before:], *secret, *LONG)]
        caller, outcome = await ask(pipeline(Chunks(pieces + ended()), lies, narrow))
        assert caller.got[0] == outcome.answer.choices[0].text.text[: len(caller.got[0])]
        if isinstance(outcome.final, Withhold):
            late += 1
            assert outcome.final.reasons[0].cause == "late"
            assert outcome.streamed.ended == "finding"
            assert outcome.answer.choices[0].text.text == caller.got[0]
    assert 0 < late < 48


async def test_stretches_are_bounded_whatever_the_length_of_the_answer():
    banned = Finds(re.compile("FORBIDDEN"), "banned", characters=9, overlap=20)
    model = Chunks([Piece(text=t) for t in re.findall(r"\S+\s?", LONG * 20)] + ended())
    _, outcome = await ask(pipeline(model, banned=banned))
    assert isinstance(outcome.final, Release)
    assert max(map(len, banned.shown[:-1])) < 20 + LONGEST + 200
    assert banned.shown[-1] == LONG * 20


async def test_text_that_may_not_leave_yet_is_looked_at_more_and_more_seldom():
    banned = Finds(re.compile("(?s)https.*"), "link", characters=20, overlap=20, replacement="[link]")
    model = Chunks([Piece(text=t) for t in ("https://" + "a" * 20_000)] + ended())
    made = pipeline(model, banned=banned, audit=[POLICY["audit"][0], {"stage": "banned", "on_finding": "redact"}])
    _, outcome = await ask(made)
    assert outcome.answer.choices[0].text.text == "[link]"
    assert sum(map(len, banned.shown)) < 6 * 20_000


@pytest.mark.parametrize("silent", ["secrets", "banned"])
async def test_an_auditor_that_needs_the_whole_answer_holds_it(silent):
    whole = {silent: Finds(SECRET, "phi", characters=None, replacement="[gone]")}
    model = Chunks([Piece(text=LONG), *ended()])
    caller, outcome = await ask(pipeline(model, **whole))
    assert caller.got == {}
    assert outcome.streamed.mode == "held"
    assert outcome.streamed.why == f"auditor:{silent}"
    assert isinstance(outcome.final, Release)
    assert outcome.answer.choices[0].text.text == LONG


async def test_log_probabilities_are_given_for_a_whole_answer():
    caller, outcome = await ask(pipeline(Chunks([Piece(text=LONG), *ended()])), logprobs=0)
    assert (caller.got, outcome.streamed.why) == ({}, "logprobs")


async def test_a_model_that_breaks_off_leaves_what_had_left_and_a_reason():
    model = Chunks([*(Piece(text=t) for t in LONG), RuntimeError("MARKER")])
    caller, outcome = await ask(pipeline(model))
    assert isinstance(outcome.attempts[0].completed, StageFailed)
    assert outcome.final.reasons[0].code == "model-failed"
    assert outcome.final.reasons[0].cause == "raised:RuntimeError"
    assert outcome.streamed.ended == "model-failed"
    assert outcome.answer.choices[0].text.text == caller.got[0]
    assert outcome.answer.choices[0].finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("pieces", "cause"),
    [
        ([Piece(text="a")], "nonsense:cut"),
        ([Piece(text="a"), "text"], "nonsense:type"),
        ([Piece(text="a", choice=1), *ended()], "nonsense:choice"),
        ([Piece(arguments="{}"), *ended()], "nonsense:tool_calls"),
        ([Piece(call=1, name="scan"), *ended()], "nonsense:tool_calls"),
        ([Piece(finish_reason="stop"), Piece(text="more"), *ended()], "nonsense:after-end"),
        ([Piece(finish_reason="done"), *ended()], "nonsense:finish_reason"),
        ([Piece(text="\ud800"), *ended()], "nonsense:text"),
        ([ValueError("MARKER")], "raised:ValueError"),
    ],
)
async def test_a_stream_that_is_none_fails_the_model(pieces, cause):
    caller, outcome = await ask(pipeline(Chunks(pieces)))
    assert caller.got == {}
    assert outcome.final.reasons[0].cause == cause
    assert outcome.streamed.mode == "held"


async def test_a_caller_that_goes_away_stops_the_model():
    never = asyncio.Event()
    model = Chunks([*(Piece(text=t) for t in LONG), never])
    caller, outcome = await ask(pipeline(model), Taker(goes=2))
    await asyncio.sleep(0)
    assert outcome.final.reasons[0].code == "caller-gone"
    assert outcome.streamed.ended == "caller-gone"
    assert outcome.answer.choices[0].text.text == caller.got[0]
    async with asyncio.timeout(5):
        while not model.closed:  # noqa: ASYNC110 - the stream is closed by a task of its own
            await asyncio.sleep(0.001)


async def test_a_caller_that_goes_away_before_the_first_piece_stops_the_model_too():
    never = asyncio.Event()
    model = Chunks([Piece(text="a"), never])
    caller = Taker()
    asking = asyncio.create_task(ask(pipeline(model), caller))
    async with asyncio.timeout(5):
        while model.given < 2:  # noqa: ASYNC110 - the model's side sets no event
            await asyncio.sleep(0.001)
        caller.gone.tell()
        _, outcome = await asking
    assert outcome.final.reasons[0].code == "caller-gone"
    assert outcome.answer is None


async def test_a_model_that_stalls_is_late():
    model = Chunks([*(Piece(text=t) for t in LONG), asyncio.Event()])
    caller, outcome = await ask(pipeline(model, backend={"stage": "model", "deadline": "300ms"}))
    assert outcome.final.reasons[0].cause == "deadline"
    assert outcome.streamed.ended == "model-failed"
    assert LONG.startswith(caller.got[0])


async def test_a_log_that_takes_no_record_lets_nothing_leave():
    with pytest.raises(Unavailable):
        await ask(pipeline(Chunks([Piece(text=LONG), *ended()])), Taker(fails=Unavailable("no")))


async def test_a_check_that_fails_on_the_way_ends_the_answer():
    class Breaks(Finds):
        async def audit(self, prompt, completion):
            if "normal size. The lungs" in completion.choices[0].text.text[-60:]:
                raise RuntimeError("MARKER")
            return ()

    model = Chunks([*(Piece(text=t) for t in LONG), *ended()])
    caller, outcome = await ask(pipeline(model, banned=Breaks(SECRET, "x")))
    assert [(reason.code, reason.cause) for reason in outcome.final.reasons] == [
        ("stage-failed", "raised:RuntimeError")
    ]
    assert outcome.streamed.ended == "check-failed"
    assert outcome.answer.choices[0].text.text == caller.got[0]


async def test_a_model_that_writes_megabytes_at_once_is_read_as_far_as_the_audit_is():
    banned = Finds(re.compile("FORBIDDEN"), "banned", characters=9, overlap=20)
    model = Chunks([Piece(text=LONG * 10) for _ in range(300)] + ended())
    _, outcome = await ask(pipeline(model, banned=banned))
    assert isinstance(outcome.final, Release)
    assert len(outcome.answer.choices[0].text.text) == len(LONG) * 3000
    assert max(map(len, banned.shown[:-1])) < 65_536 + 2 * len(LONG) * 10


async def test_calls_of_tools_are_audited_whole_and_leave_with_the_end():
    calls = [
        Piece(call=0, call_id="c1", name="scan"),
        Piece(call=0, arguments='{"who": "#12'),
        Piece(call=0, arguments='3#"}'),
    ]
    model = Chunks([*(Piece(text=t) for t in LONG), *calls, Piece(finish_reason="tool_calls"), Ended(model="m")])
    _, outcome = await ask(pipeline(model))
    call = outcome.answer.choices[0].tool_calls[0]
    assert (call.name.text, call.arguments.text) == ("scan", '{"who": "[gone]"}')
    assert outcome.answer.choices[0].finish_reason == "tool_calls"
    assert outcome.answer.choices[0].text.text == LONG
    forbidden = [Piece(call=0, call_id="c1", name="scan"), Piece(call=0, arguments='"FORBIDDEN"')]
    _, outcome = await ask(pipeline(Chunks([*(Piece(text=t) for t in LONG), *forbidden, *ended()])))
    assert outcome.streamed.ended == "finding"
    assert outcome.answer.choices[0].tool_calls == ()


class Declines(Finds):
    """Says of each answer that begins with `I can not` that it refuses."""

    def __init__(self):
        super().__init__(re.compile(r"^I can not"), "refusal", characters=20)


async def test_an_answer_that_refuses_is_held_to_its_end_and_asked_for_again():
    class Twice(Chunks):
        async def stream(self, prompt):
            self.pieces = [Piece(text=t) for t in ("I can not help. " * 10 if not self.given else LONG)] + ended()
            async for piece in super().stream(prompt):
                yield piece

    made = pipeline(Twice([]), banned=Declines(), over_defense={"retry": {"demonstrations": 0}})
    caller, outcome = await ask(made)
    assert len(outcome.attempts) == 2
    assert isinstance(outcome.final, Release)
    assert LONG.startswith(caller.got[0])
    assert outcome.answer.choices[0].text.text == LONG
