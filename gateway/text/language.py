"""Tell language from noise with a small list of common English and medical words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple

_SEGMENT, _SEGMENTS, _LONGEST = 2_000, 20_000, 16  # letters parted at a time, in all, and of a word
_SHORT = 0.25
_WORD = re.compile(r"[a-z]{2,24}")
_WORDS = re.compile(r"[a-z]+")
_LETTERS = re.compile(r"[A-Za-z]{2,24}")


@cache
def words() -> frozenset[str]:
    """Give the built-in list: about 4,800 lowercase words, the commonest of English and of clinical requests."""
    return frozenset(resources.files("gateway.text").joinpath("words.txt").read_text("ascii").split())


def language_like(text: str) -> float:
    """Give the share, 0..1, of letters in `text` that stand in known words."""
    known = words()
    total = hits = 0
    for match in _WORD.finditer(text.lower()):
        length = match.end() - match.start()
        total += length
        if match[0] in known:
            hits += length
    return hits / total if total else 0.0


def is_language(text: str) -> bool:
    """Tell whether short decoded text is language: half of its letters in known words, or two known words in it."""
    known = words()
    long = sum(1 for match in _WORD.finditer(text.lower()) if len(match[0]) > 2 and match[0] in known)
    return long > 1 or language_like(text) >= 0.5


def is_prose(text: str, *, share: float = 0.5, long: float = 0.0) -> bool:
    """Tell whether text is surely language: two known words of three letters or more, and `share` of its letters known.

    `long` is the least share of letters in known words of three letters or more; short words come about by chance.
    """
    known = words()
    total = hits = far = count = 0
    for match in _WORDS.finditer(text.lower()):
        length = match.end() - match.start()
        total += length
        if match[0] in known or match[0] in ("a", "i"):
            hits += length
            if length > 2:
                far += length
                count += 1
    return count > 1 and hits >= share * total and far >= long * total


def segment(letters: str) -> str:
    """Part letters that were written without spaces into known words; as they are where most are in none.

    The cheapest path wins: a word costs 1, a letter in no word 2. Letters after the 20,000th are left unparted.
    """
    if len(letters) < 7 or letters.lower() in words():
        return letters
    parted = [_part(letters[at : at + _SEGMENT]) for at in range(0, min(len(letters), _SEGMENTS), _SEGMENT)]
    return (" " if len(parted) > 1 and " " in parted[0] else "").join(parted) + letters[_SEGMENTS:]


def _part(letters: str) -> str:
    known, low = words(), letters.lower()
    cost, back = [0.0], [0]
    for end in range(1, len(low) + 1):
        best, where = cost[-1] + 2.0, end - 1
        for start in range(max(end - _LONGEST, 0), end - 1):
            if cost[start] + 1.0 < best and low[start:end] in known:
                best, where = cost[start] + 1.0, start
        if low[end - 1] == "a" and cost[end - 1] + 1.0 < best:
            best, where = cost[end - 1] + 1.0, end - 1
        cost.append(best)
        back.append(where)
    parts, end, inside = [], len(low), 0
    while end:
        start = back[end]
        inside += end - start if end - start > 1 else 0
        parts.append(letters[start:end])
        end = start
    if inside * 10 < 7 * len(low):
        return letters
    merged: list[str] = []
    loose = False  # letters in no word stay together
    for part in reversed(parts):
        single = len(part) == 1 and part not in "aA"
        if single and loose:
            merged[-1] += part
        else:
            merged.append(part)
        loose = single
    return " ".join(merged)


class Word(NamedTuple):
    """A word of a text: where it stands, its lowercase letters, whether it is in the list, and is an acronym."""

    start: int
    end: int
    low: str
    known: bool
    capitals: bool


def read_words(text: str) -> list[Word]:
    """Give the words of ASCII letters in `text`, two letters and more."""
    known = words()
    shouted = text.isupper()
    return [
        Word(match.start(), match.end(), low := match[0].lower(), low in known, not shouted and match[0].isupper())
        for match in _LETTERS.finditer(text)
    ]


def _weight(word: str) -> float:
    return 1.0 if len(word) > 2 else _SHORT


def hidden_spans(found: list[Word], unhide: Callable[[str], str], least: float = 2.0) -> Iterator[tuple[int, int]]:
    """Give the spans of a text whose words are known only once `unhide` has turned them.

    Each word scores for being known turned and against being known as it stands; a span is a stretch of words whose
    scores sum to `least` (Kadane's maximum subarray, restarted after each find): 2 are two long hits in a row.
    Words that are known neither way belong to the span they touch. `found` are the words of the text.
    """
    known = words()
    start = end = lead = -1  # lead: where the neutral words before a span begin
    total = best = 0.0
    open_end = False  # only neutral words have come since the span's best end
    for word in found:
        turned = unhide(word.low)
        score = 0.0
        if turned in known:  # NG, VF, ABG, PNA: acronyms are often words of rot13 too
            score += _SHORT if word.capitals else _weight(turned)
        if word.known:
            score -= _weight(word.low)
        if score < 0 or lead < 0:
            lead = word.end if score < 0 else word.start
        if start < 0:
            if score > 0:
                start, end, total, best, open_end = lead, word.end, score, score, True
            continue
        total += score
        if score > 0 and total >= best:
            best, end, open_end = total, word.end, True
        elif score < 0:
            open_end = False
        elif open_end:
            end = word.end
        if total <= 0 or total < best - 1.5:
            if best >= least:
                yield start, end
            start, total, best = -1, 0.0, 0.0
    if start >= 0 and best >= least:
        yield start, end
