"""Tell language from noise with a small list of common English and medical words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources

_SEGMENT, _LONGEST = 2_000, 16  # letters to part at most, and of a word
_SHORT = 0.25
_WORD = re.compile(r"[a-z]{2,24}")
_LETTERS = re.compile(r"[A-Za-z]{2,24}")


@cache
def words() -> frozenset[str]:
    """Give the built-in list: about 2,000 lowercase words, the commonest of English and of clinical requests."""
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


def segment(letters: str) -> str:
    """Part letters that were written without spaces into known words; as they are where most are in none.

    The cheapest path wins: a word costs 1, a letter in no word 2. Letters after the 2,000th are left unparted.
    """
    if len(letters) < 7 or letters.lower() in words():
        return letters
    known, low = words(), letters[:_SEGMENT].lower()
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
    return " ".join(merged) + letters[_SEGMENT:]


def _weight(word: str) -> float:
    return 1.0 if len(word) > 2 else _SHORT


def hidden_spans(text: str, unhide: Callable[[str], str]) -> Iterator[tuple[int, int]]:
    """Give the spans of `text` whose words are known only once `unhide` has turned them.

    Each word scores for being known turned and against being known as it stands; a span is a stretch of words whose
    scores sum to 2 at least (Kadane's maximum subarray, restarted after each find), so two long hits in a row.
    Words that are known neither way belong to the span they touch.
    """
    known = words()
    start = end = lead = -1  # lead: where the neutral words before a span begin
    total = best = 0.0
    open_end = False  # only neutral words have come since the span's best end
    shouted = text.isupper()
    for match in _LETTERS.finditer(text):
        plain = match[0].lower()
        turned = unhide(plain)
        score = 0.0
        if turned in known:  # NG, VF, ABG, PNA: acronyms are often words of rot13 too
            score += _SHORT if not shouted and match[0].isupper() else _weight(turned)
        if plain in known:
            score -= _weight(plain)
        if score < 0 or lead < 0:
            lead = match.end() if score < 0 else match.start()
        if start < 0:
            if score > 0:
                start, end, total, best, open_end = lead, match.end(), score, score, True
            continue
        total += score
        if score > 0 and total >= best:
            best, end, open_end = total, match.end(), True
        elif score < 0:
            open_end = False
        elif open_end:
            end = match.end()
        if total <= 0 or total < best - 1.5:
            if best >= 2:
                yield start, end
            start, total, best = -1, 0.0, 0.0
    if start >= 0 and best >= 2:
        yield start, end
