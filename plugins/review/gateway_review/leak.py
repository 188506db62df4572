"""The stage `demonstration-leak`: an answer that gives away the demonstrations instead of learning from them.

A leak is one of three things, and none of them counts where the user's own text holds the same words:

- the answer repeats `QUESTION_RUN` words or more, in order, of a demonstration's *question* (or all of a shorter one);
- it holds a marker of chat roles, so the model goes on with a conversation of its own;
- it repeats `ANSWER_RUN` words or more of the answers of two or more *answering* demonstrations.

The words of a refusal are meant to be imitated, and one demonstration's answer may be the right answer: neither is a
leak.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gateway.plugin import Completion, Finding, Prompt, Text
from gateway_review.asked import off_loop

QUESTION_RUN = 8
ANSWER_RUN = 10

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_MARKER = re.compile(
    r"<\|(?:im_start|im_end|user|assistant|system|endoftext|eot_id|start_header_id|end_header_id|begin_of_text)\|>"
    r"|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|^[ \t]*(?:#{1,4} ?)?(?:human|user|assistant|instruction|response)[ \t]?:[ \t]*\S",
    re.IGNORECASE | re.MULTILINE,
)
_Run = tuple[str, ...]


class DemonstrationLeak:
    """Finds demonstrations and role markers in answers. Linear in the length of the answer."""

    async def audit(self, prompt: Prompt, completion: Completion) -> tuple[Finding, ...]:
        """Give one finding for each leak, with the offsets of its first words that leak."""
        texts = [text for choice in completion.choices for text in choice.texts() if text.text]
        if not texts:
            return ()
        size = sum(len(text.text) for text in texts) + sum(len(text.text) for text in prompt.request.texts())
        return await off_loop(size, lambda: _find(prompt, texts))


def _find(prompt: Prompt, texts: list[Text]) -> tuple[Finding, ...]:
    asked = [text.text for text in prompt.request.texts()]
    questions = {run: demo.id for demo in prompt.demonstrations for run in _runs(demo.question, QUESTION_RUN)}
    answers = {
        run: demo.id for demo in prompt.demonstrations if not demo.refuses for run in _runs(demo.answer, ANSWER_RUN)
    }
    lengths = {len(run) for run in questions}
    for known in asked:
        words = [word for word, _, _ in _words(known)]
        for run in _windows(words, lengths):
            questions.pop(run, None)
        for run in _windows(words, {ANSWER_RUN}):
            answers.pop(run, None)
    markers = {match.group().strip().lower() for text in asked for match in _MARKER.finditer(text)}
    found: list[Finding] = []
    for text in texts:
        found += _in_text(text, questions, answers, markers)
    return tuple(found)


def _in_text(text: Text, questions: dict[_Run, str], answers: dict[_Run, str], markers: set[str]) -> list[Finding]:
    found: list[Finding] = []
    for match in _MARKER.finditer(text.text):
        if match.group().strip().lower() not in markers:
            found.append(_finding(text, match.start(), match.end(), 0.9, "role-marker"))
            break
    placed = _words(text.text)
    words = [word for word, _, _ in placed]
    lengths = {len(run) for run in questions} | ({ANSWER_RUN} if answers else set())
    repeated: dict[str, tuple[int, int]] = {}
    asked_again: tuple[int, int] | None = None
    for length in sorted(lengths):
        for at, run in enumerate(_windows(words, {length})):
            span = (placed[at][1], placed[at + length - 1][2])
            if run in questions and asked_again is None:
                asked_again = span
            if length == ANSWER_RUN and run in answers:
                repeated.setdefault(answers[run], span)
    if asked_again is not None:
        found.append(_finding(text, *asked_again, 1.0, "question"))
    if len(repeated) >= 2:
        found.append(_finding(text, *min(repeated.values()), 0.8, "answers"))
    return found


def _finding(text: Text, start: int, end: int, score: float, label: str) -> Finding:
    return Finding(kind="demonstration-leak", score=score, part=text.id, start=start, end=end, label=label)


def _words(text: str) -> list[tuple[str, int, int]]:
    return [(match.group().lower().replace("’", "'"), match.start(), match.end()) for match in _WORD.finditer(text)]


def _windows(words: list[str], lengths: set[int]) -> list[_Run]:
    return [tuple(words[i : i + length]) for length in lengths for i in range(len(words) - length + 1)]


@lru_cache(maxsize=4096)
def _runs(text: str, length: int) -> tuple[_Run, ...]:
    """Give the runs of `length` words in `text`; the whole of it where it is shorter and has four words at least."""
    words = [word for word, _, _ in _words(text)]
    if len(words) < length:
        return (tuple(words),) if len(words) >= 4 else ()
    return tuple(_windows(words, {length}))
