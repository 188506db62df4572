"""What tests of whole batches share: mixed lines, and what must hold at the end."""

import asyncio
import base64
import collections
import io
import json
import random
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from support import ROOT

from gateway.records import BatchLineV1, DecisionV1
from gateway.store import Store, load_secret

HELD_OUT = ROOT / "plugins/intent/gateway_intent/training/heldout"
KINDS = ("benign", "harmful", "jailbroken", "image", "broken", "duplicate")


def texts(name: str) -> list[str]:
    lines = (HELD_OUT / name).read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.strip() and not line.startswith("#")]


def picture(words: str = "") -> str:
    """A small picture, with words drawn into it, as a data URL."""
    made = Image.new("RGB", (320, 200), (24, 24, 24))
    draw = ImageDraw.Draw(made)
    draw.ellipse((90, 40, 230, 170), fill=(120, 120, 120))
    draw.text((12, 8), words, fill=(255, 255, 255), font_size=16)
    target = io.BytesIO()
    made.save(target, "PNG")
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()


def chat_line(custom_id: str, content: Any, **body: Any) -> bytes:
    asked = {"model": "auto", "messages": [{"role": "user", "content": content}], **body}
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": asked}
    return json.dumps(line).encode()


class Mixed:
    """`number` lines of every kind; `ids` are the custom ids that must come out once, `contents` what live ones ask."""

    def __init__(self, number: int, seed: int = 6, images: float = 0.01) -> None:
        draw = random.Random(seed)
        benign = [text.partition(" ")[2] for text in texts("benign.txt")]
        harmful, wrappers = texts("plain.txt"), texts("wrappers.txt")
        self.lines: list[bytes] = []
        self.ids: list[str] = []
        self.contents: dict[str, Any] = {}
        self.kinds: collections.Counter[str] = collections.Counter()
        scan = picture()
        for place in range(number):
            shares = {
                "benign": 0.62,
                "harmful": 0.2,
                "jailbroken": 0.1,
                "image": images,
                "broken": 0.05,
                "duplicate": 0.02,
            }
            kind = draw.choices(KINDS, [shares[each] for each in KINDS])[0]
            if kind == "duplicate" and not self.ids:
                kind = "benign"
            self.kinds[kind] += 1
            id_ = f"case-{place:05d}"
            match kind:
                case "broken":
                    self.lines.append(draw.choice(self._broken(id_)))
                    continue
                case "duplicate":
                    self.lines.append(chat_line(draw.choice(self.ids), "Which plane is shown?"))
                    continue
                case "harmful":
                    content: Any = draw.choice(harmful)
                case "jailbroken":
                    content = draw.choice(wrappers).replace("\\n", "\n").replace("{q}", draw.choice(harmful))
                case "image":
                    words = {"type": "text", "text": draw.choice(benign)}
                    content = [words, {"type": "image_url", "image_url": {"url": scan}}]
                case _:
                    content = draw.choice(benign)
            self.ids.append(id_)
            self.contents[id_] = content
            self.lines.append(chat_line(id_, content))

    @staticmethod
    def _broken(id_: str) -> tuple[bytes, ...]:
        """Lines from which no request can be read, and whose custom id nobody can tell or that have none."""
        return (
            b'{"custom_id": "' + id_.encode() + b'", "method": "POST", ',
            b"\xff\xfe not text",
            b"[1, 2, 3]",
            json.dumps({"method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}}).encode(),
        )

    def bytes(self) -> bytes:
        return b"\n".join(self.lines) + b"\n"


def wait(client: Any, id_: str, seconds: float, *outputs: Any) -> Any:
    """Wait until a batch has ended."""
    end = time.monotonic() + seconds
    while True:
        batch = client.batches.retrieve(id_)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return batch
        assert time.monotonic() < end, (batch, [each.output()[-3000:] for each in outputs])
        time.sleep(0.2)


def results(client: Any, batch: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of a batch's output and of its errors."""
    both = (batch.output_file_id, batch.error_file_id)
    read = [client.files.content(id_).read() if id_ else b"" for id_ in both]
    good, bad = ([json.loads(line) for line in raw.splitlines()] for raw in read)
    return good, bad


def logged(url: str, data: Path, batch: str) -> dict[int, list[DecisionV1]]:
    """The decisions of a batch that the log holds, by line."""

    async def read() -> dict[int, list[DecisionV1]]:
        store = await Store.open(url, secret=load_secret(data, None), must_sign=False)
        found: dict[int, list[DecisionV1]] = collections.defaultdict(list)
        try:
            for stored in await store.decisions.recent(1_000_000):
                record = stored.record
                if (
                    isinstance(record, DecisionV1)
                    and isinstance(record.batch, BatchLineV1)
                    and record.batch.batch == batch
                ):
                    found[record.batch.line].append(record)
        finally:
            await store.close()
        return found

    return asyncio.run(read())


def check_exactly_once(
    mixed: Mixed,
    batch: Any,
    good: list[dict[str, Any]],
    bad: list[dict[str, Any]],
    records: dict[int, list[DecisionV1]],
) -> None:
    """Every custom id once over both files, every line once, every answer with one record that says the same."""
    seen = [line["custom_id"] for line in (*good, *bad) if line["custom_id"] is not None]
    assert sorted(seen) == sorted(mixed.ids)
    assert len(good) + len(bad) == len(mixed.lines)
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (len(mixed.lines), len(good), len(bad))
    answered = [
        line["response"]["request_id"] for line in (*good, *bad) if line["response"] and line["response"]["request_id"]
    ]
    assert len(answered) == len(set(answered))
    of_log = [record.id for found in records.values() for record in found]
    assert all(len(found) == 1 for found in records.values()), "one record for a line, however often it was tried"
    assert sorted(of_log) == sorted(answered)
    words = collections.Counter(record.outcome for found in records.values() for record in found)
    told = (batch.model_extra or {})["gateway"]["by_outcome"]
    for word in ("released", "refused", "withheld"):
        assert told.get(word, 0) == words.get(word, 0), word
