"""Find turns that a text forges, and pieces of a payload that it asks to be joined.

A chat template marks who speaks with tokens of its own; a user's text that holds such tokens, or plays both sides of a
conversation, may pass for turns that never were. Patterns of the templates are those published with the models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKENS = (
    r"<\|(?:im_start|im_end|im_sep|start_header_id|end_header_id|eot_id|eom_id|begin_of_text|end_of_text|endoftext"
    r"|start|end|message|channel|return|user|assistant|system|tool|end_of_turn|start_of_role|end_of_role"
    r"|fim_(?:prefix|middle|suffix))\|>"
    r"|<(?:start_of_turn|end_of_turn|start_of_image|image_soft_token|bos|eos)>|\[/?INST\]|<</?SYS>>"
    r"|\[(?:SYSTEM_PROMPT|/SYSTEM_PROMPT|AVAILABLE_TOOLS|/AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|/TOOL_RESULTS)\]"
    r"|<｜(?:User|Assistant|begin▁of▁sentence|end▁of▁sentence|tool▁calls▁begin)｜>"
    r"|(?<![\w<])</?s>(?!\w)"
)
_TOKEN = re.compile(_TOKENS)
_ROLE = (
    r"(?:user|human|assistant|system|developer|ai|bot|model|chatbot|gpt-?4|chatgpt|gemini|claude|llama|instruction"
    r"|response|input|output)"
)
_LINE = re.compile(
    r"(?:^|(?<=[\n>\]])|(?<=[.!?\"'”] ))[ \t]*(?:[#*_\->\[(]{0,4} ?)"
    rf"(?P<role>{_ROLE})(?: ?\d{{1,2}})?[\])*_]{{0,3}} ?(?::|>|=)+[*_]{{0,2}}",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"(?:^|\n|(?<=[.!?] ))[ \t]*(?P<role>Q|A)(?:\d{1,2})?[:.)](?=\s)")
_JSON_ROLE = re.compile(r"[\"'](?:role|from|speaker)[\"']\s*:\s*[\"'](?P<role>\w{2,12})[\"']")
_JSON_TEXT = re.compile(
    r"[\"'](?:content|value|text|message)[\"']\s*:\s*[\"'](?P<text>(?:[^\"\\]|\\.){1,4000}?)[\"']\s*[,}\]]"
)
_TAG = re.compile(rf"</?(?P<role>{_ROLE}|turn|message|msg|prompt)(?:\s[^<>]{{0,80}})?/?>", re.IGNORECASE)
_ANSWERS = frozenset({"assistant", "ai", "bot", "model", "chatbot", "response", "output", "a", "gpt", "claude"})

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
_STRING = re.compile(r"(?P<quote>[\"'`])(?P<value>(?:(?!(?P=quote))[^\\\n]|\\.){1,400})(?P=quote)")
_CHAINED = re.compile(r"[\s+,.&|;<()\[\]\\]{1,8}")
_FILLED = re.compile(
    r"(?P<name>\[[A-Z]\w{0,11}\]|<[A-Z][A-Z0-9_]{0,11}>|\{\w{1,12}\}|\$\w{1,12}|(?<!\w)[A-Z][A-Z0-9_]{0,11})"
    r"\s{0,2}(?:[:=]+|->|→|\bmeans\b|\bis\b|\bstands for\b)\s{0,2}"
    r"(?:[\"'“‘`](?P<quoted>[^\"”`\n]{1,200}?)[\"'”’`](?!\w)|(?P<bare>[^\s,;.\"'“‘`]+(?=[\s,;.]|$)))"
)
_MAX_PIECES = 6


def forged_tokens(text: str) -> int:
    """Count the control tokens of chat templates in `text`."""
    return sum(1 for _ in _TOKEN.finditer(text))


def blank_tokens(text: str) -> str:
    """Put spaces in the place of control tokens; every other character keeps its place."""
    return _TOKEN.sub(lambda match: " " * len(match[0]), text) if "<" in text or "[" in text else text


def defuse(text: str) -> tuple[str, int]:
    """Break the control tokens of chat templates, so that no server can read them as such: the text, and how many.

    A space is put after the first character of each token. All else stays as it is.
    """
    return _TOKEN.subn(lambda match: f"{match[0][0]} {match[0][1:]}", text)


def forged_turns(text: str) -> tuple[str, ...]:
    """Give what stands in the turns that `text` forges, in order, where it plays an assistant's side too.

    At most 6 pieces come back, the last ones: what is asked in the end stands there.
    """
    marks = [(match.start(), match.end(), (match.groupdict().get("role") or "").lower()) for match in _marks(text)]
    tokens = forged_tokens(text)
    answers = sum(role in _ANSWERS for _, _, role in marks)
    if tokens == 0 and (len(marks) < 2 or answers == 0):
        return ()
    marks += [(match.start(), match.end(), "token") for match in _TOKEN.finditer(text)]
    cuts = sorted(marks)
    pieces = [text[: cuts[0][0]]]
    for place, (_, end, _) in enumerate(cuts):
        pieces.append(text[end : cuts[place + 1][0] if place + 1 < len(cuts) else len(text)])
    spoken = [match["text"] for match in _JSON_TEXT.finditer(text)] if _JSON_ROLE.search(text) else []
    kept = [piece.strip(" \t\r\n,;:{}[]()\"'#*") for piece in (*pieces, *spoken)]
    return tuple(dict.fromkeys(piece for piece in kept if len(piece.split()) > 2))[-_MAX_PIECES:]


def _marks(text: str) -> Iterator[re.Match[str]]:
    for pattern in (_LINE, _QUESTION, _JSON_ROLE, _TAG):
        yield from pattern.finditer(text)


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
