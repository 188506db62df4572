"""Join the pieces of a payload that a text asks to be joined, or to be put where a name stands for them."""

from __future__ import annotations

import re

_ASSIGNED = re.compile(
    r"(?P<name>(?<![\w$])[$@]?[A-Za-z]\w{0,15}(?:\s?\d{1,2})?)\s*(?::=|=|:|\bis\b|\bbe\b|\bholds\b|->|→)\s*"
    r"(?P<quote>[\"'“‘`«])(?P<value>[^\"“”`«»\n]{1,400}?)(?<!\\)[\"'”’`»](?!\w)"
)
_ONE = r"[$@]?[A-Za-z]\w{0,15}(?:\s?\d{1,2})?"
_ORDER = re.compile(rf"(?<![\w$]){_ONE}(?:\s*(?:\+|&|\.\.|,|then|and)\s*{_ONE}){{1,15}}")
_NAME = re.compile(_ONE)
_NUMBER = r"(?:\d{1,2}|[ivx]{1,4}|one|two|three|four|five|six|first|second|third|fourth|last|final|[a-f])"
_PIECE = r"(?:part|piece|chunk|fragment|half|line|segment|token|word|slot|step)"
_PART = re.compile(
    rf"(?:^|\n|(?<=[.;!?\"”] )|(?<=, ))[ \t]*[\[(*#-]{{0,3}}(?:(?:{_PIECE}s?\s*#?\s*{_NUMBER}|{_NUMBER}\s+{_PIECE})"
    r"(?:\s*(?:/|of)\s*\w{1,5})?[\])*]{0,3}\s*(?:is|:|=|->|-|–)+|\d{1,2}\s?(?:/|of)\s?\d{1,2}[\])*:.]{1,3})"
    r"\s*(?P<value>[^\n]{1,400})",
    re.IGNORECASE,
)
_STRING = re.compile(r"(?P<quote>[\"'`])(?P<value>(?:(?!(?P=quote))[^\\\n]|\\.){0,400})(?P=quote)")
_CHAINED = re.compile(r"[\s+,.&|;<()\[\]\\]{1,8}")
_FILLED = re.compile(
    r"(?P<name>\[[A-Z]\w{0,11}\]|<[A-Z][A-Z0-9_]{0,11}>|\{\w{1,12}\}|\$\w{1,12}|(?<!\w)[A-Z][A-Z0-9_]{0,11})"
    r"\s{0,2}(?:[:=]+|->|→|\bmeans\b|\bis\b|\bstands for\b)\s{0,2}"
    r"(?:[\"'“‘`](?P<quoted>[^\"”`\n]{1,200}?)[\"'”’`](?!\w)|(?P<bare>[^\s,;.\"'“‘`]+(?=[\s,;.]|$)))"
)
_MAX_PIECES = 6


def joined(text: str) -> tuple[str, ...]:
    """Give the readings of a text whose pieces are to be joined: values put into names, and numbered parts.

    Values are joined in the order in which they were given and, where an expression names them (``a + b``), in its
    order.
    """
    found: list[str] = []
    values = {match["name"]: match["value"] for match in _ASSIGNED.finditer(text)}
    if len(values) > 1:
        found += _both(list(values.values()))
        for order in _ORDER.finditer(text):
            named = [name for name in _NAME.findall(order[0]) if name in values]
            if len(named) > 1:
                found += _both([values[name] for name in named])
    parts = [match["value"].strip(" \t\"'“”‘’`.…") for match in _PART.finditer(text)]
    if len(parts) > 1:
        found += _both(parts)
    found += _chains(text)
    found += _filled(text)
    return tuple(dict.fromkeys(found))[:_MAX_PIECES]


def _chains(text: str) -> list[str]:
    """Join strings that stand one after the other, three or more: ``"a" + "b" + "c"``, a list of them."""
    if sum(map(text.count, "\"'`")) < 6:
        return []
    chains: list[list[str]] = [[]]
    end = -1
    for match in _STRING.finditer(text):
        if chains[-1] and not (match.start() - end < 9 and _CHAINED.fullmatch(text, end, match.start())):
            chains.append([])
        chains[-1].append(match["value"])
        end = match.end()
    longest = max(chains, key=lambda chain: sum(map(len, chain)) if len(chain) > 2 else 0)
    return _both(longest) if len(longest) > 2 else []


def _filled(text: str) -> list[str]:
    """Put values in the places that stand for them: ``[MASK1] = word``."""
    values: dict[str, str] = {}
    for match in _FILLED.finditer(text):
        values.setdefault(match["name"], match["quoted"] or match["bare"])
        if len(values) == 64:
            break
    if not values:
        return []
    names = sorted(values, key=len, reverse=True)
    places = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in names))
    rest = _FILLED.sub(" ", text)
    plain, count = places.subn(lambda match: values[match[0]], rest)
    return [plain.strip()] if count else []


def _both(pieces: list[str]) -> list[str]:
    """Join pieces with spaces, and without: a word may have been cut."""
    spaced = " ".join(piece.strip() for piece in pieces)
    return [spaced, "".join(pieces)]
