"""``python -m gateway_image_text.evaluate``: word recall and time for each way of drawing a sentence.

Word recall is the share of a sentence's words that stand in what was read, as words; a sentence is found at 0.7. Times
are those of one core, in milliseconds: the 50th and the 95th percentile.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from gateway_image_text.evaluate.conditions import CONDITIONS
from gateway_image_text.evaluate.draw import annotate, draw, encode
from gateway_image_text.evaluate.sentences import noted, sentence
from gateway_image_text.reader import Reader

FOUND = 0.7
"""The word recall from which on a sentence counts as found."""
_WORD = re.compile(r"[a-z0-9]+")


def recall(read: str, drawn: str) -> float:
    """Give the share of the words of `drawn` that `read` has, each as often as it was drawn; case does not matter."""
    wanted, got = (Counter(_WORD.findall(text.lower())) for text in (drawn, read))
    return sum((wanted & got).values()) / sum(wanted.values())


def measure(reader: Reader, name: str, count: int, seed: int, files: tuple[Path, ...], show: bool) -> dict[str, Any]:
    """Draw and read `count` sentences under one condition, every second of them harmful."""
    recalls, times, whole = [], [], 0
    for number in range(count):
        rng = random.Random(f"{seed}/{name}/{number}")  # noqa: S311 - a drawing
        text = sentence(rng, harmful=number % 2 == 0)
        style = CONDITIONS[name](rng)
        picture = draw(text, style, rng, files)
        if style.annotated:
            picture = annotate(picture, noted(rng), rng)
        data = encode(picture, style.quality)
        start = time.thread_time()
        reading = reader.read(data)
        times.append((time.thread_time() - start) * 1000)
        whole += reading.complete
        read = f"{reading.text}\n{reading.annotations}"
        recalls.append(recall(read, text))
        if show and recalls[-1] < FOUND:
            sys.stderr.write(f"  {number} {recalls[-1]:.2f} {style}\n    {text!r}\n    {read!r}\n")
    return {
        "condition": name,
        "found": round(float(np.mean(np.array(recalls) >= FOUND)), 3),
        "recall": round(float(np.mean(recalls)), 3),
        "complete": round(whole / count, 3),
        "ms": [round(float(v)) for v in np.percentile(times, (50, 95))],
    }


def pictures(place: Path) -> tuple[Path, ...]:
    """List the JPEG and PNG files in the folder `place`, or those that its lines of JSON name in ``image``."""
    if place.is_dir():
        return tuple(sorted(file for file in place.rglob("*") if file.suffix in {".jpg", ".jpeg", ".png"}))
    return tuple(place.parent / json.loads(line)["image"] for line in place.read_text("utf-8").splitlines())


def main() -> None:
    """Read the arguments, measure, print one line of JSON for each condition."""
    parser = argparse.ArgumentParser(prog="python -m gateway_image_text.evaluate", description=__doc__)
    parser.add_argument(
        "--images",
        type=Path,
        help="clinical images to draw on: a folder, or JSON lines whose `image` is a path; else phantoms",
    )
    parser.add_argument("--only", default="*", help="conditions, as a pattern such as `turn-*`")
    parser.add_argument("--count", type=int, default=20, help="sentences for each condition")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-side", type=int, default=640)
    parser.add_argument("--smallest", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--show", action="store_true", help="print the sentences that were not found")
    given = parser.parse_args()
    files = pictures(given.images) if given.images else ()
    reader = Reader(threads=1, max_side=given.max_side, smallest=given.smallest, seconds=given.seconds)
    for name in CONDITIONS:
        if any(fnmatch.fnmatch(name, pattern) for pattern in given.only.split(",")):
            row = measure(reader, name, given.count, given.seed, files, given.show)
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
