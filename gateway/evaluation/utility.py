"""How close an answer comes to a reference answer, as SQuAD measures it (arXiv 1606.05250). Pure."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

SHORT = 3
"""Words up to which a reference is short: then it counts too whether the answer contains it."""

_ARTICLES = frozenset(("a", "an", "the"))


def words(text: str) -> tuple[str, ...]:
    """Give the words that count: folded, without articles, punctuation and accents' ways of writing."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return tuple(word for word in re.findall(r"\w+", folded) if word not in _ARTICLES)


def token_f1(answer: str, reference: str) -> float:
    """Give the harmonic mean of precision and recall over words, 0..1; 1 where neither holds a word."""
    said, wanted = words(answer), words(reference)
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))


def contained(answer: str, reference: str) -> bool | None:
    """Tell whether the answer holds a short reference, word by word; None where the reference is long or empty."""
    said, wanted = words(answer), words(reference)
    if not 0 < len(wanted) <= SHORT:
        return None
    return any(said[at : at + len(wanted)] == wanted for at in range(len(said) - len(wanted) + 1))
