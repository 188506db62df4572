"""What a caller waits for: the time to the first token and between tokens, asked directly and through the gateway.

Run: `python bench/streaming.py [--answers 3] [--rate 100]`. The reference upstream writes answers of 1,500 and of 6,000
characters, at a fixed pace and as fast as they are taken. Each is asked for directly, through a policy with
``stream: held`` and through one with ``stream: windowed``, in turn and in one run, with the real checks in both. What
the hold-back itself needs (its tokens at the model's pace) is told apart from what the gateway adds.

`--streams 256 [--minutes 1]` keeps so many windowed streams going at once instead, each with numbered lines of its own.
Every answer is compared with what the model wrote; it ends with 1 where one is not whole. The memory of the gateway is
told of the first and of the last minute.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.samples.streams import LENGTHS, WAYS, Place, question_of, served, text_of
from gateway.testing.upstream.draft import tokens_of

SPREAD = 10.0
"""Seconds over which many streams are begun: nobody has that many callers who begin at the same moment."""


@dataclass
class Heard:
    """One streamed answer: when each piece of text came, in seconds since the request, and all of it.

    `ended` says that the stream came to its end, `stream` how the gateway says it left.
    """

    at: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    whole: float = 0.0
    status: int = 0
    ended: bool = False
    stream: str = ""
    decision: str = ""

    @property
    def text(self) -> str:
        """Give the text."""
        return "".join(self.pieces)


def _model(way: str, pace: str, characters: int) -> str:
    if way == "direct":
        return "plain"
    return f"{pace}-{characters}" if pace == "paced" and characters in LENGTHS else pace


async def ask(session: aiohttp.ClientSession, place: Place, way: str, pace: str, case: int, characters: int) -> Heard:
    """Ask for one answer, and read it as it comes."""
    body = {
        "model": _model(way, pace, characters),
        "stream": True,
        "messages": [{"role": "user", "content": question_of(case, characters)}],
    }
    heard, start = Heard(), time.perf_counter()
    headers = {"authorization": f"Bearer {place.keys[way]}"}
    async with session.post(place.urls[way, pace] + "/chat/completions", json=body, headers=headers) as answer:
        heard.status = answer.status
        heard.stream = answer.headers.get("x-gateway-stream", "")
        heard.decision = answer.headers.get("x-gateway-decision", "")
        async for line in answer.content:
            if line.startswith(b"data: [DONE]"):
                heard.ended = True
            elif line.startswith(b"data: "):
                event = msgspec.json.decode(line[6:])
                text = "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))
                if text:
                    heard.at.append(time.perf_counter() - start)
                    heard.pieces.append(text)
    heard.whole = time.perf_counter() - start
    return heard


async def _record(session: aiohttp.ClientSession, place: Place, way: str, decision: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {place.keys[way]}"}
    async with session.get(f"{place.base}/decisions/{decision}", headers=headers) as answer:
        found: dict[str, Any] = await answer.json()
        return found


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


class Row:
    """The answers of one way, in milliseconds."""

    def __init__(self, heard: list[Heard]) -> None:
        self.first = statistics.median(one.at[0] for one in heard) * 1000
        self.whole = statistics.median(one.whole for one in heard) * 1000
        gaps = [(b - a) * 1000 for one in heard for a, b in zip(one.at, one.at[1:], strict=False)]
        self.gaps = _percentile(gaps, 0.5), _percentile(gaps, 0.99)
        self.characters = statistics.median(len(piece) for one in heard for piece in one.pieces)

    def line(self, way: str, direct: Row, tokens: int) -> str:
        """Write the row; `direct` is the one to compare it with."""
        told = (
            f"{way:10}{self.first:9.1f} ms {self.whole:12.1f} ms{self.gaps[0]:10.2f} {self.gaps[1]:9.2f} ms"
            f"{self.characters:9.0f}"
        )
        if direct is self:
            return told
        added = (self.whole - direct.whole) / tokens
        return f"{told}{added:13.3f} ms{self.first / direct.first:9.1f} x {self.whole / direct.whole:8.2f} x"


async def compare(place: Place, answers: int, rate: float) -> None:
    """Ask in all ways, in turn, and print what each took."""
    case = 0
    async with aiohttp.ClientSession() as session:
        for way in WAYS:
            for pace in ("paced", "fast"):
                await ask(session, place, way, pace, case := case + 1, 300)
        total = len(LENGTHS) * 2 * answers * len(WAYS)
        told: list[str] = []
        with tqdm(total=total, unit="answer", disable=not sys.stderr.isatty()) as bar:
            for pace in ("paced", "fast"):
                for characters in LENGTHS:
                    heard: dict[str, list[Heard]] = {way: [] for way in WAYS}
                    for _ in range(answers):
                        for way in WAYS:
                            case += 1  # each question is new, or the checks of the second would know it
                            heard[way].append(await ask(session, place, way, pace, case, characters))
                            if heard[way][-1].text != text_of(case, characters):
                                raise SystemExit(f"the answer through {way} is not what the model wrote")
                            bar.update()
                    told += _table(pace, characters, heard, rate)
                    if pace == "paced":
                        last = heard["windowed"][-1]
                        told += _first_token(await _record(session, place, "windowed", last.decision), heard, rate)
    print("\n".join(told))


def _table(pace: str, characters: int, heard: dict[str, list[Heard]], rate: float) -> list[str]:
    tokens = len(tokens_of(text_of(1, characters)))
    how = f"{rate:g} tokens a second" if pace == "paced" else "as fast as they are taken"
    rows = {way: Row(heard[way]) for way in WAYS}
    return [
        f"\n{characters:,} characters in {tokens:,} tokens, {how}; medians of {len(heard['direct'])}",
        f"{'':10}{'first token':>12}{'whole answer':>16}{'between pieces p50, p99':>26}{'letters':>9}"
        f"{'added a token':>16}{'to direct: first, whole':>25}",
        *(rows[way].line(way, rows["direct"], tokens) for way in WAYS),
    ]


def _needed(hold_back: int, text: str) -> int:
    """Count the tokens that the model writes until more than `hold_back` characters are there."""
    size = needed = 0
    for token in tokens_of(text):
        if size > hold_back:
            break
        size, needed = size + len(token), needed + 1
    return needed


def _first_token(record: dict[str, Any], heard: dict[str, list[Heard]], rate: float) -> list[str]:
    """Tell what the first token of a windowed answer waits for."""
    hold_back = record["streamed"]["hold_back"]
    needed = _needed(hold_back, heard["direct"][-1].text)
    after = Row(heard["windowed"]).first - Row(heard["direct"]).first
    needs = (needed - 1) / rate * 1000
    before = max(screened["ms"] for screened in record["screening"])
    return [
        f"  the first token of `windowed` comes {after:.0f} ms after that of `direct`:",
        f"    {needs:7.1f} ms  the hold-back of {hold_back} characters needs {needed} tokens",
        f"    {before:7.1f} ms  checks before the model",
        f"    {after - needs - before:7.1f} ms  all else",
    ]


def _memory(pid: int) -> float:
    """Give the resident memory of a process in MB, NaN where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return float("nan")
    return int(next(line for line in status.read_text().splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


class Going:
    """Keeps windowed streams going until `end`, by `time.perf_counter`, and counts what comes of them."""

    def __init__(self, place: Place, end: float) -> None:
        self._place, self._end = place, end
        self._cases = iter(range(1, sys.maxsize))
        self.first: list[float] = []
        self.lost: Counter[str] = Counter()
        self.memory: list[float] = []
        self.characters = self.windowed = 0
        self.last = Heard()

    async def stream(self, session: aiohttp.ClientSession, after: float) -> None:
        """Ask for one answer after the other, from `after` seconds on."""
        await asyncio.sleep(after)
        while time.perf_counter() < self._end:
            case = next(self._cases)
            length = LENGTHS[0] + case % 7 * 100
            try:
                heard = await ask(session, self._place, "windowed", "paced", case, length)
                problem = _problem(heard, text_of(case, length))
            except (aiohttp.ClientError, OSError, msgspec.MsgspecError) as exc:
                problem = type(exc).__name__
            if problem:
                self.lost[problem] += 1
                await asyncio.sleep(0.1)
                continue
            self.first.append(heard.at[0] * 1000)
            self.characters += length
            self.windowed += heard.stream == "windowed"
            self.last = heard

    async def watch(self, seconds: float) -> None:
        """Look at the gateway's memory each second, until cancelled."""
        with tqdm(total=round(seconds), unit="s", disable=not sys.stderr.isatty()) as bar:
            while True:
                self.memory.append(_memory(self._place.pid))
                await asyncio.sleep(1)
                bar.update()
                lost = sum(self.lost.values())
                bar.set_postfix(answers=len(self.first), lost=lost, mb=f"{self.memory[-1]:.0f}")


def _problem(heard: Heard, text: str) -> str:
    if heard.status != 200:
        return f"status {heard.status}"
    if not heard.ended:
        return "cut"
    return "" if heard.text == text else "wrong text"


async def keep_going(place: Place, streams: int, minutes: float, rate: float) -> int:
    """Keep `streams` windowed streams going for `minutes`, and print what came of them; give the exit status."""
    start = time.perf_counter()
    going = Going(place, start + minutes * 60)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        watching = asyncio.create_task(going.watch(minutes * 60))
        await asyncio.gather(*(going.stream(session, SPREAD * number / streams) for number in range(streams)))
        watching.cancel()
        took = time.perf_counter() - start
        whys = ", ".join(f"{why} {number}" for why, number in going.lost.items())
        print(f"streams at once                {streams:8}     for {took:.0f} s")
        print(f"answers whole, as written      {len(going.first):8}     {going.windowed} left in windows")
        print(f"lost                           {going.lost.total():8}     {whys}")
        if not going.first:
            return 1
        record = await _record(session, place, "windowed", going.last.decision)
    hold_back = record["streamed"]["hold_back"]
    needs = (_needed(hold_back, going.last.text) - 1) / rate * 1000
    samples = max(1, min(60, len(going.memory) // 2))
    early, late = (statistics.median(part) for part in (going.memory[:samples], going.memory[-samples:]))
    p99 = _percentile(going.first, 0.99)
    print(f"text                           {going.characters / took:8.0f}     characters a second")
    print(f"first token, median            {_percentile(going.first, 0.5):8.0f} ms  p99 {p99:.0f} ms")
    print(f"  the hold-back alone          {needs:8.0f} ms")
    print(f"memory, first {samples:2} s             {early:8.0f} MB")
    print(f"memory, last {samples:2} s              {late:8.0f} MB  {late / early:.2f} x")
    return 1 if going.lost else 0


def main() -> int:
    """Measure and print; give the exit status."""
    words = argparse.ArgumentParser(description="Streams: directly, held and windowed.")
    words.add_argument("--answers", type=int, default=3, help="answers of each kind (%(default)s)")
    words.add_argument("--rate", type=float, help="tokens in a second of the paced model (100; 20 with `--streams`)")
    words.add_argument("--streams", type=int, help="keep so many streams going at once instead")
    words.add_argument("--minutes", type=float, default=1.0, help="how long (%(default)s)")
    given = words.parse_args()
    rate: float = given.rate or (20.0 if given.streams else 100.0)
    if given.streams:
        with served(rate, given.streams) as place:
            return asyncio.run(keep_going(place, given.streams, given.minutes, rate))
    with served(rate) as place:
        asyncio.run(compare(place, given.answers, rate))
    return 0


if __name__ == "__main__":
    sys.exit(main())
