"""`gateway reviews`: the queue, taking and judging decisions, and the figures of it."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import click
import msgspec

from gateway.cli.keys import _with_store
from gateway.cli.output import as_json, settings_options, show
from gateway.records import Caller
from gateway.records.events import Verdict
from gateway.records.proportions import Share
from gateway.records.review_figures import ReviewFigures, Spread
from gateway.records.review_plan import WITHIN

_PLACE = settings_options("data_dir", "database_url")
_VERDICTS = click.Choice(get_args(Verdict))
_REASON = click.option("--reason", required=True, help="Why, 5 to 1000 characters; it stands in the log.")


def _officer() -> Caller:
    """Tell who reviews at the command line: the account of the operating system, since no API key is used."""
    return Caller(key=f"os-account:{os.getuid()}", department="*", roles=("officer", "operator"), via="os")


def _run(flags: dict[str, Any], work: Callable[[Any, Caller], Awaitable[Any]]) -> Any:
    async def run(store: Any) -> Any:
        await store.sequencer.catch_up()  # no gateway may be running that would
        return await work(store.reviews, _officer())

    return _with_store(flags, run)


def _told(done: Any, json_wanted: bool) -> None:
    review = done.review
    if json_wanted:
        fields = {"step": done.step.id, "decision": done.step.decision, "state": review.state}
        click.echo(json.dumps({**fields, "assignee": review.assignee, "verdict": review.verdict}, indent=2))
        return
    word = {
        "open": "is back in the queue",
        "assigned": f"is with {review.assignee}",
        "second": f"is judged `{review.verdict}`, and waits for a second reader: `gateway reviews second`",
        "disputed": "is disputed; a third person is to judge it",
        "escalated": "is escalated; others are to judge it",
        "settled": f"is settled: `{review.verdict}`",
    }
    click.echo(f"{done.step.decision} {word[review.state]} (record {done.step.id})")


@click.group()
def reviews() -> None:
    """Reviews: people judge what the gateway decided. Each step is recorded, and so is each look at the queue."""


@reviews.command("list")
@click.option("--state", "states", multiple=True, help="open, assigned, second, disputed, escalated or settled.")
@click.option("--department", default=None, help="One department's.")
@click.option("--assignee", default=None, help="A key or a person; `me` for this account.")
@click.option("--due-by", default=None, type=click.Choice(tuple(WITHIN)), help="What made them due.")
@click.option("--overdue", is_flag=True, help="Those that should be settled by now.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@click.option("--cursor", default=None, help="The next page, as the page before told it.")
@as_json
@_PLACE
def list_(
    states: tuple[str, ...],
    department: str | None,
    assignee: str | None,
    due_by: str | None,
    overdue: bool,
    limit: int,
    cursor: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """List what waits, oldest first."""
    from gateway.store.review_queue import parse_review_filter

    pairs = [("state", state) for state in states]
    pairs += [
        (n, v) for n, v in (("department", department), ("assignee", assignee), ("due_by", due_by)) if v is not None
    ]
    wanted = parse_review_filter([*pairs, *([("overdue", "true")] if overdue else ())])
    page = _run(
        flags,
        lambda all_, me: all_.queue(me, wanted, endpoint="gateway reviews list", limit=limit, cursor=cursor),
    )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"reviews": page.rows, "next": page.next})).decode())
        return
    rows = [
        {
            "decision": row.decision,
            "department": row.department,
            "due_by": row.due_by,
            "at": _time(row.at),
            "settle_by": f"{_time(row.by)}{' (overdue)' if row.overdue else ''}",
            "state": row.state,
            "assignee": row.assignee,
            "verdict": row.verdict,
            "judged_by": row.judged_by,
        }
        for row in page.rows
    ]
    columns = ("decision", "department", "due_by", "at", "settle_by", "state", "assignee", "verdict", "judged_by")
    show(rows, columns, json_wanted=False)
    if page.next is not None:
        click.echo(f"there are more: --cursor {page.next}")


@reviews.command()
@click.argument("decision_id")
@click.option("--for", "assignee", default=None, help="The key or person who is to judge; this account unless given.")
@as_json
@_PLACE
def take(decision_id: str, assignee: str | None, as_json: bool, **flags: Any) -> None:
    """Take a decision to judge, or give it to somebody."""
    _told(_run(flags, lambda all_, me: all_.assign(decision_id, me, assignee)), as_json)


@reviews.command()
@click.argument("decision_id")
@click.option("--reason", default=None, help="Needed to take it from somebody else.")
@as_json
@_PLACE
def release(decision_id: str, reason: str | None, as_json: bool, **flags: Any) -> None:
    """Give a decision back to the queue."""
    _told(_run(flags, lambda all_, me: all_.release(decision_id, me, reason=reason)), as_json)


@reviews.command()
@click.argument("decision_id")
@click.argument("verdict", type=_VERDICTS)
@_REASON
@click.option("--meaning", default="review", show_default=True, help="What the signature stands for.")
@as_json
@_PLACE
def judge(decision_id: str, verdict: Verdict, reason: str, meaning: str, as_json: bool, **flags: Any) -> None:
    """Sign a verdict. All but `agree` wait for a second reader."""
    _told(_run(flags, lambda all_, me: all_.judge(decision_id, me, verdict, reason, meaning)), as_json)


@reviews.command()
@click.argument("decision_id")
@click.argument("review_id")
@click.option("--confirm/--reject", "confirms", required=True, help="Whether the first reader's verdict is right.")
@click.option("--verdict", default=None, type=_VERDICTS, help="What you would say instead, with --reject.")
@_REASON
@click.option("--meaning", default="second review", show_default=True, help="What the signature stands for.")
@as_json
@_PLACE
def second(
    decision_id: str,
    review_id: str,
    confirms: bool,
    verdict: Verdict | None,
    reason: str,
    meaning: str,
    as_json: bool,
    **flags: Any,
) -> None:
    """Sign as second reader of the verdict in the record REVIEW_ID."""
    _told(
        _run(
            flags,
            lambda all_, me: all_.second(decision_id, review_id, me, confirms, reason, meaning, verdict=verdict),
        ),
        as_json,
    )


@reviews.command()
@click.argument("decision_id")
@as_json
@_PLACE
def history(decision_id: str, as_json: bool, **flags: Any) -> None:
    """Show every record of a decision's review, with who signed, when, and what the signature means."""
    found = _run(flags, lambda all_, me: all_.history(decision_id, me, endpoint="gateway reviews history"))
    rows = [
        {
            "record": told.step.id,
            "at": _time(told.step.at),
            "name": told.step.caller.person or told.step.caller.key,
            "action": told.step.action,
            "assignee": told.step.assignee,
            "verdict": told.step.verdict,
            "confirms": told.step.confirms,
            "meaning": told.step.meaning,
            "reason": told.step.reason,
            "no_effect": None if told.obstacle is None else told.obstacle.text,
        }
        for told in found.steps
    ]
    if not as_json:
        click.echo(f"{decision_id} is {found.review.state}")
    show(rows, tuple(rows[0]) if rows else ("record",), json_wanted=as_json)


@reviews.command("figures")
@click.option("--since", default=None, type=click.DateTime(), help="Judged from this time on (UTC).")
@click.option("--until", default=None, type=click.DateTime(), help="Judged before this time (UTC).")
@as_json
@_PLACE
def figures_(since: dt.datetime | None, until: dt.datetime | None, as_json: bool, **flags: Any) -> None:
    """Show how far people agree with the gateway, how long reviews take, and what waits."""
    ends = {
        name: None if at is None else at.replace(tzinfo=dt.UTC) for name, at in (("since", since), ("until", until))
    }
    found: ReviewFigures = _run(flags, lambda all_, me: all_.figures(me, **ends))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    show(_rows(found), ("figure", "value"), json_wanted=False)


def _rows(found: ReviewFigures) -> list[dict[str, str]]:
    rows = [
        ("judged", str(found.judged)),
        ("settled", str(found.settled)),
        ("agreement", _share(found.agreement)),
        *((f"agreement, {by} {name}", _share(s)) for by, groups in found.by.items() for name, s in groups.items()),
        ("false positives, of stopped decisions", _share(found.false_positives)),
        ("false negatives, of answers drawn by chance", _share(found.false_negatives)),
        ("confirmed by second readers", _share(found.confirmed)),
        ("kappa of first and second readers", f"{'none' if found.kappa is None else f'{found.kappa:.2f}'}"),
        ("time to the verdict", _spread(found.to_verdict)),
        ("time to settle", _spread(found.to_settled)),
        *((f"now {state}", str(number)) for state, number in found.queue.states.items()),
        ("now overdue", str(found.queue.overdue)),
        ("oldest not settled", "none" if found.queue.oldest is None else _span(found.queue.oldest)),
    ]
    return [{"figure": name, "value": value} for name, value in rows]


def _share(share: Share) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "none"
    return f"{share.hits} of {share.of}: {share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def _spread(spread: Spread) -> str:
    if spread.median is None or spread.p90 is None:
        return "none"
    return f"median {_span(spread.median)}, 90 % within {_span(spread.p90)}"


def _time(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%MZ}"


def _span(seconds: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
