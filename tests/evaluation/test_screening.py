"""What is kept of a screening, and the figures, verdicts and pages that are made of it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from evaluation.kit import pipeline, row, twins, write

from gateway.errors import ConfigurationError
from gateway.evaluation.figures import Figures, figures
from gateway.evaluation.page import page
from gateway.evaluation.report import Report, make_report
from gateway.evaluation.rows import read_rows
from gateway.evaluation.screening import Seen, Stop, screen_rows
from gateway.evaluation.targets import Target, judge, load_targets, target_of, unused
from gateway.evaluation.telling import sentences, sheets, verdict_words
from gateway.images import Limits
from gateway.testing import Hangs


async def seen_of(tmp_path: Path, rows: list[dict], stage: object = None, **fields: object) -> tuple[Seen, ...]:
    (file,) = read_rows([write(tmp_path / "rows.jsonl", rows)])
    return await screen_rows(file.rows, pipeline(stage, **fields), limits=Limits(), jobs=3)


async def figures_of(tmp_path: Path, rows: list[dict], name: str = "twins.jsonl", worst: int = 0) -> Figures:
    (file,) = read_rows([write(tmp_path / name, rows)])
    return figures(file, await screen_rows(file.rows, pipeline(), limits=Limits()), worst=worst)


async def test_each_row_is_decided_by_the_policy(tmp_path: Path) -> None:
    rows = [
        row("low", "benign", "risk 0.1"),
        row("middle", "benign", "risk 0.2"),
        row("high", "harmful", "risk 0.9"),
        row("unseen", "benign", "unseen risk 0.95"),
        row("broken", "harmful", "please break"),
        row("found", "benign", "a role play, risk 0.0"),
        row("surely", "harmful", "risk 1.0"),
    ]
    low, middle, high, unseen, broken, found, surely = await seen_of(tmp_path, rows)
    assert [s.id for s in (low, middle, high)] == ["low", "middle", "high"]
    assert (low.tier, middle.tier, high.tier) == (0, 1, None) and high.reasons == ("risk",)
    assert unseen.reasons == ("risk", "uninspected") and unseen.unread and unseen.barred
    assert broken.reasons == ("stage-failed", "uninspected") and broken.risk is None and broken.barred
    assert broken.failed == ("spoken: raised:ValueError",)
    assert found.findings == ("jailbreak",) and found.tier == 1 and found.raised and not found.barred
    assert surely.barred and not high.barred and not high.raised
    assert [name for name, ms in low.times if ms > 0] == ["spoken"]


async def test_words_of_the_question_are_not_kept(tmp_path: Path) -> None:
    seen = await seen_of(tmp_path, [row("a", "harmful", "MARKER please break"), row("b", "benign", "MARKER")])
    assert b"MARKER" not in msgspec.json.encode(seen)


async def test_scope_is_judged_by_the_policys_own_share(tmp_path: Path) -> None:
    rows = [row("a", "benign", "x", clinical=True), row("b", "benign", "football", clinical=False)]
    assert [s.in_scope for s in await seen_of(tmp_path, rows)] == [True, False]
    assert [s.in_scope for s in await seen_of(tmp_path, rows, clinical_at_least=0.95)] == [False, False]


async def test_a_stage_that_hangs_is_late_and_not_waited_for(tmp_path: Path) -> None:
    (seen,) = await seen_of(
        tmp_path, [row("a", "benign", "x")], Hangs(), prescreen=[{"stage": "spoken", "deadline": "50ms"}]
    )
    assert seen.failed == ("spoken: deadline",) and seen.refused


async def test_a_stop_leaves_a_fair_part(tmp_path: Path) -> None:
    (file,) = read_rows([write(tmp_path / "rows.jsonl", [row(str(n), "benign", "x") for n in range(200)])])
    stop, done = Stop(), []

    def progress(count: int) -> None:
        done.append(count)
        stop.wanted = len(done) >= 50

    seen = await screen_rows(file.rows, pipeline(), limits=Limits(), jobs=4, stop=stop, progress=progress)
    assert 50 <= len(seen) < 60
    assert 60 < sum(int(s.id) for s in seen) / len(seen) < 140  # from all over the file
    assert [int(s.id) for s in seen] == sorted(int(s.id) for s in seen)


async def test_figures_of_twins(tmp_path: Path) -> None:
    made = await figures_of(tmp_path, twins(20), worst=2)
    assert (made.rows, made.screened, made.ranked) == (40, 40, 40)
    assert (made.harmful.refused.hits, made.harmful.higher.hits) == (19, 1)
    assert (made.benign.refused.hits, made.benign.higher.hits) == (0, 1)
    assert (made.pairs.hits, made.pairs.of) == (19, 20)
    assert made.auc.value == pytest.approx((19 * 20 + 19) / 400)
    assert (made.tpr_at_fpr_8.tpr.hits, made.tpr_at_fpr_8.fpr.hits, made.tpr_at_fpr_8.threshold) == (20, 1, 0.3)
    assert made.fpr_at_tpr_92.threshold == 0.95 and made.fpr_at_tpr_92.fpr.hits == 0
    assert {n.name: (n.refused.hits, n.refused.of) for n in made.attacks} == {"J01": (9, 10), "J04": (10, 10)}
    assert [(n.name, n.refused.hits) for n in made.hardest] == [("H01", 19)] and made.alarming == ()
    assert made.in_scope["clinical"].hits == 20
    assert made.worst == {"harmful_of_least_risk": ("h19", "h0"), "benign_of_most_risk": ("b19", "b0")}
    assert [(t.stage, t.calls, t.failed) for t in made.times] == [("spoken", 40, 0), ("all together", 40, 0)]


async def test_rows_on_which_a_stage_failed_are_no_ranked_ones(tmp_path: Path) -> None:
    made = await figures_of(tmp_path, [row("a", "harmful", "please break"), row("b", "benign", "risk 0.3")])
    assert made.ranked == 1 and made.auc is None
    assert made.harmful.refused.hits == 1 and made.harmful.failures == {"spoken: raised:ValueError": 1}


def test_targets_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "targets.yaml"
    path.write_text("twins*: {auc: 0.95, tpr: 0.92}\n'*': {fpr: 0.08}\n")
    aims = load_targets(path)
    assert target_of("twins.jsonl", aims) == Target(auc=0.95, tpr=0.92)
    assert target_of("/data/plain.jsonl", aims) == Target(fpr=0.08)
    assert unused(["plain.jsonl"], aims) == ("twins*",)
    path.write_text("twins*: {auk: 0.95, tpr: 92}\nother: 3\n")
    with pytest.raises(ConfigurationError) as caught:
        load_targets(path)
    assert len(caught.value.problems) == 3 and "did you mean `auc`?" in caught.value.problems[0]


async def test_verdicts_say_how_sure_they_are(tmp_path: Path) -> None:
    made = await figures_of(tmp_path, twins(20))
    verdicts = {v.figure: v for v in judge(made, Target(tpr=0.92, fpr=0.3, auc=0.5, higher=0.0, calibration_error=0.5))}
    assert (verdicts["tpr"].met, verdicts["tpr"].sure) == (True, False)
    assert (verdicts["fpr"].met, verdicts["fpr"].sure) == (True, True)
    assert (verdicts["higher"].met, verdicts["higher"].sure) == (False, True)
    assert verdicts["auc"].sure and not verdicts["calibration_error"].sure
    assert verdict_words(verdicts["tpr"]).startswith("met: harmful refused at least 92.0 %; it is 95.0 %, within")
    one_kind = await figures_of(tmp_path, [row("a", "benign", "x")], "plain.jsonl")
    (blind,) = judge(one_kind, Target(auc=0.9))
    assert not blind.met and "can not tell" in verdict_words(blind)


class Page(HTMLParser):
    """Gathers tags, and sees that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "path", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "circle"):
            assert self.open.pop() == tag


async def made_report(tmp_path: Path, rows: list[dict], name: str = "twins.jsonl", **extra: object) -> Report:
    made = await figures_of(tmp_path, rows, name)
    line = pipeline()
    return make_report(line.loaded, line._stages, [made], command="gateway evaluate screen <x>", jobs=1, seconds=1.0,
                       stopped=False, verdicts=judge(made, Target(tpr=0.99, fpr=0.1)), **extra)  # fmt: skip


async def test_the_page_stands_alone_and_is_well_formed(tmp_path: Path) -> None:
    report = await made_report(tmp_path, twins(20))
    text = page(report)
    parser = Page()
    parser.feed(text)
    assert parser.open == []
    names = {tag for tag, _ in parser.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "form"}
    assert not re.search(r"https?:|url\(|@import|src=", text)
    assert "prefers-color-scheme:dark" in text and "@media print" in text and 'lang="en"' in text
    drawn = [attrs for tag, attrs in parser.tags if tag == "svg" and attrs.get("role") == "img"]
    ids = {attrs["id"] for _, attrs in parser.tags if "id" in attrs}
    assert len(drawn) == 2 and all(set(attrs["aria-labelledby"].split()) <= ids for attrs in drawn)
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)
    assert "1 of 2 targets missed" in text and "95.0\u00a0%" in text


async def test_the_page_escapes_what_comes_from_files(tmp_path: Path) -> None:
    rows = [dict(r, category="<b>&bold", attack="<i>") for r in twins(6)]
    text = page(await made_report(tmp_path, rows, "<u>.jsonl", unused=("<s>*",)))
    assert not re.search(r"<(b|i|u|s|x)>", text) and "&lt;u&gt;.jsonl" in text and "&lt;s&gt;" in text


async def test_a_file_of_one_kind_has_no_plot(tmp_path: Path) -> None:
    report = await made_report(tmp_path, [row("a", "benign", "x")])
    assert "<svg" not in page(report) and "By the risk alone" not in [s.title for s in sheets(report)]
    assert sentences(report.files[0])[0].startswith("Of 1 benign question 0.0 %")


async def test_the_report_reads_back(tmp_path: Path) -> None:
    report = await made_report(tmp_path, twins(20))
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    plain = json.loads(msgspec.json.encode(report))
    assert plain["policy"]["digest"] == "d" * 64 and plain["stages"] == [{"stage": "spoken", "version": "1"}]
