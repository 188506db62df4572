"""Measure `readable`: how much of other languages is called not read, and how much English.

``python -m gateway_intent.languages_check tests/languages.txt [FILE]...`` prints the shares on the sentences of the
first file (a code, then the sentence; see its head) and on each FILE of English (JSON lines with a ``text``, or
one text a line, where ``=>`` parts twins).
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import defaultdict
from pathlib import Path

from gateway_intent.language import foreign_letters, model, readable

SHORT = 5
"""Up to so many words a sentence is short."""

_WORD = re.compile(r"[^\W\d_]+")
_LABEL = re.compile(r"^[A-Z]\d\d (?:say: |vp: )?")


def kind(code: str, sentence: str) -> str:
    """Give the group that a sentence is counted in."""
    held = " (held out)" if code.endswith("*") else ""
    name = code.rstrip("*")
    if name in ("en", "mix"):
        return ("English" if name == "en" else "mixed with English") + held
    foreign, total = foreign_letters(sentence)
    if foreign * 2 > total:
        return "other script" + held
    length = "up to 5 words" if len(_WORD.findall(sentence)) <= SHORT else "6 words and more"
    return f"{'romanised' if len(name) > 2 else 'Latin script'}, {length}{held}"


def sentences(path: Path) -> dict[str, list[str]]:
    """Read the sentences by the group that they are counted in."""
    groups: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            code, _, sentence = line.partition(" ")
            groups[kind(code, sentence)].append(sentence)
    return groups


def english(path: Path) -> list[str]:
    """Read the texts of a file of English."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    if path.suffix == ".jsonl":
        return [json.loads(line)["text"] for line in lines]
    return [part for line in lines for part in _LABEL.sub("", line).split(" => ")]


def main(first: str, *others: str) -> None:
    """Print a table: group, not read, of how many, share."""
    say = sys.stdout.write
    say(f"model: {'py3langid' if model() is not None else 'none, function words only'}\n")
    groups = sentences(Path(first)) | {Path(other).name: english(Path(other)) for other in others}
    for name in sorted(groups):
        started = time.perf_counter()
        unread = [text for text in groups[name] if not readable(text)]
        each = (time.perf_counter() - started) / len(groups[name])
        share = len(unread) / len(groups[name])
        say(f"{name:42s} {len(unread):5d} of {len(groups[name]):5d} = {share:.4f}  {each * 1e3:.2f} ms each\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
