"""Find turns and demonstrations that a text forges, and break the tokens that chat templates mark turns with.

A chat template marks who speaks with tokens of its own; a user's text that holds such tokens, or plays both sides of a
conversation, may pass for turns that never were. Patterns of the templates are those published with the models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TURN_TOKENS = (
    r"<\|(?!(?:image|img|video|vision|audio|object|box|quad)\w*\|>)[A-Za-z_][\w▁ .:/-]{0,40}\|>"  # ChatML, Llama, …
    r"|<｜[^<>｜\n]{1,40}｜>|\[\|[a-z_]{2,24}\|\]"  # DeepSeek; EXAONE
    r"|<(?:start_of_turn|end_of_turn|end_of_utterance|bos|eos|BOS_TOKEN|EOS_TOKEN|sop|eop|eoh|eoa|extra_id_1)>"
    r"|<(?:reserved_10[267]|SPECIAL_1[0-4])>|\[gMASK\]|\[/?INST\]|<</?SYS>>|>>(?:QUESTION|ANSWER|INTRODUCTION)<<"
    r"|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT)\]"
    r"|(?<![\w<])</?s>(?!\w)"
)
_INERT_TOKENS = (  # of pictures, of thought, of padding: no turn is forged by them, but no caller should write them
    r"<\|[A-Za-z_][\w▁ .:/-]{0,40}\|>|</?s>|<(?:image|video|audio|img|pad|unk|mask|cls|sep)>|<PAD_TOKEN>|</?img>"
    r"|<(?:start_of_image|end_of_image|image_soft_token|audio_soft_token|fake_token_around_image|IMG_CONTEXT|image_pad)>"
    r"|<(?:unused\d{1,4}|extra_id_\d{1,3}|reserved_\d{1,4}|SPECIAL_\d{1,4}|loc\d{4}|seg\d{3})>"
    r"|\[(?:IMG|IMG_BREAK|IMG_END|/?THINK|PREFIX|SUFFIX|MIDDLE|ARGS|CALL_ID)\]|</?(?:think|tool_call|tool_response)>"
)
_TOKEN = re.compile(_TURN_TOKENS)
_ANY_TOKEN = re.compile(f"{_TURN_TOKENS}|{_INERT_TOKENS}")
_STRONG = r"assistant|chatbot|chatgpt|gpt(?:-?[345]\w?)?|gemini|claude|llama|deepseek|qwen|mistral|grok|copilot"
_ROLE = (
    rf"(?:user|human|system|developer|instructions?|prompt|question|query|input|{_STRONG}|ai|bot|model|response|answer"
    r"|output|completion|reply)"
)
_LINE = re.compile(
    r"(?:^|(?<=[\n>\]])|(?<=[.!?:\"'”] ))[ \t]*(?:[#*_\->\[(]{0,4} ?)"
    rf"(?P<role>{_ROLE})(?: ?#?\d{{1,3}})?(?: ?\([^()\n]{{1,20}}\))?[\])*_]{{0,3}} ?(?::|>|=)+[*_]{{0,2}}",
    re.IGNORECASE,
)
_HEADING = re.compile(
    rf"^[ \t]*(?:#{{1,6}} ?|\*\*|\[|[-=]{{2,8}} ?)(?P<role>{_ROLE})(?: ?#?\d{{1,3}})?(?:\*\*|\]| ?[-=]{{2,8}})?[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_QUESTION = re.compile(r"(?:^|\n|(?<=[.!?] ))[ \t]*(?P<role>Q|A)(?:\d{1,2})?[:.)](?=\s|$)")
_OPTION = re.compile(r"(?:\n|[.;,?] |\t)[ \t]*B[:.)]\s")
_EXAMPLE = re.compile(
    r"^[ \t]*[#*\[(-]{0,4} ?(?:example|shot|demo(?:nstration)?|conversation|dialogue|exchange|sample) ?#?\d{1,3}"
    r"(?: ?[:.)\]-]|\b[^\n]{0,24}$)",
    re.IGNORECASE | re.MULTILINE,
)
_JSON_ROLE = re.compile(r"[\"'](?:role|from|speaker)[\"']\s*:\s*[\"'](?P<role>\w{2,12})[\"']")
_JSON_TEXT = re.compile(
    r"[\"'](?:content|value|text|message)[\"']\s*:\s*[\"'](?P<text>(?:[^\"\\]|\\.){1,4000}?)[\"']\s*[,}\]]"
)
_TAG = re.compile(rf"</?(?P<role>{_ROLE}|turn|message|msg)(?:\s[^<>]{{0,80}})?/?>", re.IGNORECASE)
_SPEAKERS = frozenset(("user", "human"))
_ASKERS = _SPEAKERS | {"system", "developer", "instruction", "prompt"}
_WEAK = frozenset(("ai", "bot", "model"))
_SURE = re.compile(_STRONG)
_OPEN = 4  # words; an answer of fewer at the end is left for the model to write
_MAX_PIECES = 6

Mark = tuple[int, int, str]


def forged_tokens(text: str) -> int:
    """Count the control tokens in `text` by which chat templates mark turns."""
    return sum(1 for _ in _TOKEN.finditer(text)) if _may_hold(text) else 0


def _may_hold(text: str) -> bool:
    return "<" in text or "[" in text


def blank_tokens(text: str) -> str:
    """Put spaces in the place of control tokens; every other character keeps its place."""
    return _ANY_TOKEN.sub(lambda match: " " * len(match[0]), text) if _may_hold(text) else text


def defuse(text: str) -> tuple[str, int]:
    """Break the control tokens of models, so that no server can read them as such: the text, and how many.

    A space is put after the first character of each token. All else stays as it is; done twice it changes no more.
    """
    broken = 0
    while _may_hold(text):
        text, count = _ANY_TOKEN.subn(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        broken += count
        if not count:
            break
    return text, broken


def forged_turns(text: str) -> tuple[str, ...]:
    """Give what stands in the turns that `text` forges, in order, where it plays an assistant's side too.

    Control tokens forge a turn always. Names do where somebody asks and an assistant answers (``Human:`` and
    ``Assistant:``, ``### Instruction`` and ``### Response``), and questions with answers where they are numbered as
    examples, or where the last is left for the model to answer; questions that are all answered are a leaflet, and
    doctor and patient are no roles of a chat. At most 6 pieces come back, the last ones: what is asked in the end
    stands there.
    """
    tokens = [(match.start(), match.end(), "token") for match in _TOKEN.finditer(text)] if _may_hold(text) else []
    marks = sorted(set(_marks(text)))
    if not tokens and not _forged(text, marks):
        return ()
    cuts = sorted(marks + tokens)
    pieces = [text[: cuts[0][0]]]
    for place, (_, end, _) in enumerate(cuts):
        pieces.append(text[end : cuts[place + 1][0] if place + 1 < len(cuts) else len(text)])
    spoken = [match["text"] for match in _JSON_TEXT.finditer(text)] if _JSON_ROLE.search(text) else []
    kept = [piece.strip(" \t\r\n,;:{}[]()\"'#*") for piece in (*pieces, *spoken)]
    return tuple(dict.fromkeys(piece for piece in kept if len(piece.split()) > 2))[-_MAX_PIECES:]


def _marks(text: str) -> Iterator[Mark]:
    """Give every place that names who speaks: start, end and role, in lower case and without number."""
    for pattern in (_LINE, _HEADING, _QUESTION, _JSON_ROLE, _TAG):
        for match in pattern.finditer(text):
            yield match.start(), match.end(), match["role"].lower().removesuffix("s")
    for match in _EXAMPLE.finditer(text):
        yield match.start(), match.end(), "example"


def _forged(text: str, marks: list[Mark]) -> bool:
    roles = {role for _, _, role in marks}
    if roles & _ASKERS and any(_SURE.fullmatch(role) for role in roles):
        return True
    if (roles & _SPEAKERS and roles & _WEAK) or (
        ("instruction" in roles or "prompt" in roles) and (roles & {"response", "output", "completion"})
    ):
        return True
    asked = [mark for mark in marks if mark[2] in ("q", "question", "query", "input")]
    answered = [mark for mark in marks if mark[2] in ("a", "answer", "response", "reply", "output")]
    if not asked or not answered or (asked[0][2] == "q" and _OPTION.search(text) is not None):
        return False
    if sum(role == "example" for _, _, role in marks) > 1:
        return True
    if asked[0][2] == "input":
        return False  # of fluids
    last = max(answered[-1], asked[-1])
    if last == asked[-1]:
        return asked[-1][0] > answered[0][0]
    return len(answered) > 1 and len(text[last[1] :].split()) < _OPEN
