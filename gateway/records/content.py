"""What a record stands for and does not hold: the bytes that are digested, and the names of what was left out."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from gateway.policy.decision import Release
from gateway.policy.evidence import Screened
from gateway.records.outcome import Completed, Injected, Outcome
from gateway.values import Completion, Demonstration, Request


def prompt_bytes(request: Request) -> bytes:
    """Give all text of a request, with roles and places, as JSON: the bytes whose keyed digest is kept."""
    roles = [turn.role for turn in request.turns]
    texts = [[text.id, text.text] for text in request.texts()]
    return msgspec.json.encode([roles, texts, request.sampling.stop])


def answer_bytes(completion: Completion) -> bytes:
    """Give all text of an answer, with its places, as JSON: the bytes whose keyed digest is kept."""
    return msgspec.json.encode([[text.id, text.text] for choice in completion.choices for text in choice.texts()])


def handed_over(answer: Completion | None) -> int:
    """Count the characters of an answer that leaves, with the names and arguments of tool calls; 0 where none does.

    Tokens that the model might have written instead (`logprobs`) are not of the answer.
    """
    choices = () if answer is None else answer.choices
    texts = [text for choice in choices for text in replace(choice, logprobs=None).texts()]
    return sum(len(text.text) for text in texts)


@lru_cache(maxsize=256)
def _demonstration_digest(demo: Demonstration) -> bytes:
    image = "" if demo.image is None else hashlib.sha256(demo.image.data).hexdigest()
    fields = [demo.id, demo.pair, demo.modality, demo.question, demo.answer, demo.refuses, image]
    return hashlib.sha256(msgspec.json.encode(fields)).digest()


def demonstrations_digest(demos: tuple[Demonstration, ...]) -> str:
    """Give the SHA-256 over the demonstrations in order; bare, because they are synthetic and no secret."""
    return hashlib.sha256(b"".join(map(_demonstration_digest, demos))).hexdigest()


def erased(outcome: Outcome, *, sealed: bool = False) -> tuple[str, ...]:
    """Name what there was and is not kept: of sealed content, all is kept but the demonstrations' words and images."""
    request = outcome.request
    completions = [a.completed.completion for a in outcome.attempts if isinstance(a.completed, Completed)]
    found = any(bool(word.screening.found) for word in outcome.screening if isinstance(word, Screened))
    shown = any(isinstance(a.injected, Injected) for a in outcome.attempts)
    what = {
        "prompt": bool(request.texts()),
        "images": bool(request.images()),
        "stop": bool(request.sampling.stop),
        "found": found,
        "demonstrations": shown,
        "answer": bool(completions) or outcome.answer is not None,
        "replacements": _redacted(outcome),
    }
    return tuple(name for name, there in what.items() if there and (name == "demonstrations" or not sealed))


def _redacted(outcome: Outcome) -> bool:
    """Tell whether something was put in place of a part of the answer that left."""
    if isinstance(outcome.final, Release):
        return bool(outcome.final.redactions)
    last = outcome.attempts[-1].completed if outcome.attempts else None
    if outcome.answer is None or not isinstance(last, Completed):
        return False
    # Of an answer that ended early no decision names the redactions of the part that had left.
    pairs = zip(outcome.answer.choices, last.completion.choices, strict=False)
    return any(not whole.text.text.startswith(left.text.text) for left, whole in pairs)
