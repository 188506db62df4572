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
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from msgspec import Struct

from gateway.plugin import Completion, Demonstration, Finding, Prompt, Text, Window
from gateway_review.asked import Kept, off_loop, written

QUESTION_RUN = 8
ANSWER_RUN = 10

_PROMPTS = 64  # whose runs are kept

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_MARKER = re.compile(
    r"<\|(?:im_start|im_end|user|assistant|system|endoftext|eot_id|start_header_id|end_header_id|begin_of_text)\|>"
    r"|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|^[ \t]{0,40}(?:#{1,4} ?)?(?:human|user|assistant|instruction|response)[ \t]?:[ \t]{0,40}\S",
    re.IGNORECASE | re.MULTILINE,
)
_Run = tuple[str, ...]


class _Known(Struct, frozen=True, kw_only=True):
    """What would leak, of the demonstrations of one prompt: runs of words, by the id of their demonstration.

    `lengths` are those of all runs, by their first two words. `markers` are the role markers that the user wrote.
    """

    questions: dict[_Run, str]
    answers: dict[_Run, str]
    lengths: dict[_Run, tuple[int, ...]]
    markers: frozenset[str]


class DemonstrationLeak:
    """Finds demonstrations and role markers in answers. Linear in the length of the answer."""

    def __init__(self) -> None:
        self._known: Kept[_Known] = Kept(_PROMPTS)

    def window(self) -> Window:
        """Ask for ten words with what stands between them, and for enough before them to hold another such run.

        Ten words of 24 letters fit; a run that is drawn out longer is found when a part of it has left.
        """
        return Window(characters=256, overlap=4096)

    async def audit(self, prompt: Prompt, completion: Completion) -> tuple[Finding, ...]:
        """Give one finding for each leak, with the offsets of the first words by which it is one."""
        texts = [text for choice in completion.choices for text in choice.texts() if text.text]
        if not texts:
            return ()
        asked = [text.text for text in prompt.request.texts()]
        told = (f"{demo.refuses}\n{demo.id}\n{demo.question}\n{demo.answer}" for demo in prompt.demonstrations)
        known = await self._known.get((*told, "", *asked), lambda: _known(prompt.demonstrations, asked))
        spelt = {text.id for choice in completion.choices for text in written(choice)}
        size = sum(len(text.text) for text in texts)
        return await off_loop(size, lambda: tuple(f for text in texts for f in _in_text(text, known, text.id in spelt)))


def _known(demonstrations: tuple[Demonstration, ...], asked: list[str]) -> _Known:
    questions = {run: demo.id for demo in demonstrations for run in _runs(demo.question, QUESTION_RUN)}
    answering = (demo for demo in demonstrations if not demo.refuses)
    answers = {run: demo.id for demo in answering for run in _runs(demo.answer, ANSWER_RUN) if len(run) == ANSWER_RUN}
    for text in asked:
        words = _words(text)
        for length in {len(run) for run in questions}:
            for run in _windows(words, length):
                questions.pop(run, None)
        for run in _windows(words, ANSWER_RUN):
            answers.pop(run, None)
    lengths: dict[_Run, set[int]] = {}
    for run in (*questions, *answers):
        lengths.setdefault(run[:2], set()).add(len(run))
    return _Known(
        questions=questions,
        answers=answers,
        lengths={head: tuple(sorted(found)) for head, found in lengths.items()},
        markers=frozenset(match.group().strip().lower() for text in asked for match in _MARKER.finditer(text)),
    )


def _in_text(text: Text, known: _Known, spelt: bool) -> list[Finding]:
    """Find what leaks in `text`; role markers only where the model has `spelt` it: an alternative may well be one."""
    marker = _marker(text.text, known) if spelt else None
    found = [] if marker is None else [_finding(text, *marker, 0.9, "role-marker")]
    if not known.lengths:
        return found
    words = _words(text.text)
    placed: list[tuple[int, int]] = []
    repeated: dict[str, tuple[int, int]] = {}
    asked_again: tuple[int, int] | None = None
    for at, head in enumerate(pairwise(words)):
        for length in known.lengths.get(head, ()):
            run = tuple(words[at : at + length])
            if run not in known.questions and run not in known.answers:
                continue
            placed = placed or [match.span() for match in _WORD.finditer(text.text)]
            span = (placed[at][0], placed[at + length - 1][1])
            if run in known.questions and asked_again is None:
                asked_again = span
            if run in known.answers:
                repeated.setdefault(known.answers[run], span)
    if asked_again is not None:
        found.append(_finding(text, *asked_again, 1.0, "question"))
    if len(repeated) >= 2:
        # The first may have been the right answer, and may have left: the second makes it a leak.
        found.append(_finding(text, *sorted(repeated.values())[1], 0.8, "answers"))
    return found


def _marker(text: str, known: _Known) -> tuple[int, int] | None:
    """Give the place of the first role marker that the user did not write.

    One at the very beginning gives way to a later one: where `text` is a stretch, its beginning may be no line's.
    """
    first: tuple[int, int] | None = None
    for match in _MARKER.finditer(text):
        if match.group().strip().lower() not in known.markers:
            if match.start():
                return match.span()
            first = match.span()
    return first


def _finding(text: Text, start: int, end: int, score: float, label: str) -> Finding:
    return Finding(kind="demonstration-leak", score=score, part=text.id, start=start, end=end, label=label)


def _words(text: str) -> list[str]:
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def _windows(words: list[str], length: int) -> Iterator[_Run]:
    return (tuple(words[at : at + length]) for at in range(len(words) - length + 1))


@lru_cache(maxsize=4096)
def _runs(text: str, length: int) -> tuple[_Run, ...]:
    """Give the runs of `length` words in `text`; the whole of it where it is shorter and has four words at least."""
    words = _words(text)
    if len(words) < length:
        return (tuple(words),) if len(words) >= 4 else ()
    return tuple(_windows(words, length))
