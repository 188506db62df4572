"""From a logged outcome, or from audited text that leaves before it, to the server-sent events of OpenAI's streams."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.policy.decision import Withhold
from gateway.records import Outcome
from gateway.values import Choice, TokenLogprob, Usage
from gateway.wire.render import Answer, answer_of, call_body, failure_of, head_of, logprobs_body, usage_body

# Some 24 characters and the rest of the word: enough pieces for a client that shows them as they come, and few events.
_PIECE = re.compile(r"(?s).{1,24}\S*\s?|.+")

_ROLE: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
_BY_CHECKS = ("finding", "check-failed")
DONE = b"data: [DONE]\n\n"


def stream_body(answer: Answer, *, include_usage: bool) -> bytes:
    """Write the events of a whole answer, ``[DONE]`` included.

    They are one body: the answer was held until it was audited and logged, so nothing is waited for between them.
    """
    events = _Events(answer, include_usage=include_usage)
    lines = [line for choice in answer.choices for line in (events.role(choice.index), *events.rest(choice, 0))]
    return b"".join([*lines, *events.usage(answer.usage), DONE])


class StreamWriter:
    """Writes the events of an answer that leaves window by window.

    It is made of what was known when the stream was opened, and ended by the outcome of the decision.
    """

    def __init__(self, opened: Outcome, decision: str, *, include_usage: bool) -> None:
        head = Answer(
            decision=decision,
            created=int(opened.started.timestamp()),
            model=opened.request.model,
            choices=(),
            usage=Usage(),
        )
        self._decision = decision
        self._events = _Events(head, include_usage=include_usage)
        self._sent: dict[int, int] = {}

    def text(self, choice: int, text: str) -> bytes:
        """Write audited text of a choice."""
        first = b"" if choice in self._sent else self._events.role(choice)
        self._sent[choice] = self._sent.get(choice, 0) + len(text)
        return first + self._events.chunk(choice, {"content": text})

    def end(self, outcome: Outcome) -> bytes:
        """Write what is left of the answer, why it ended, and ``[DONE]``.

        An answer that a check has stopped ends with the policy's closing line; one whose model failed ends
        with an error, and without ``[DONE]``.
        """
        failure = failure_of(outcome, self._decision)
        if failure is not None and outcome.streamed is not None and outcome.streamed.ended not in _BY_CHECKS:
            return failed(failure.body)
        if isinstance(outcome.final, Withhold):
            return self._closed(outcome)
        answer = answer_of(outcome, self._decision)
        lines = []
        for choice in answer.choices:
            if choice.index not in self._sent:
                lines.append(self._events.role(choice.index))
            lines += self._events.rest(choice, self._sent.get(choice.index, 0))
        return b"".join([*lines, *self._events.usage(answer.usage), DONE])

    def _closed(self, outcome: Outcome) -> bytes:
        line = f"\n\n{outcome.policy.policy.closing} (decision {self._decision})"
        lines = []
        for choice in range(outcome.request.sampling.n):
            lines += [self.text(choice, line), self._events.chunk(choice, {}, finish_reason="content_filter")]
        return b"".join([*lines, *self._events.usage(Usage()), DONE])


def failed(body: dict[str, Any]) -> bytes:
    """Write the event that ends a stream with an error; after it comes no ``[DONE]``."""
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


class _Events:
    """Writes events with the same head."""

    def __init__(self, answer: Answer, *, include_usage: bool) -> None:
        self._head = head_of(answer, "chat.completion.chunk")
        self._include_usage = include_usage
        if include_usage:
            self._head["usage"] = None

    def role(self, choice: int) -> bytes:
        return self.chunk(choice, _ROLE)

    def chunk(
        self,
        choice: int,
        delta: dict[str, Any],
        *,
        logprobs: tuple[TokenLogprob, ...] | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        told = logprobs_body(logprobs)
        piece = {"index": choice, "delta": delta, "logprobs": told, "finish_reason": finish_reason}
        return b"data: " + msgspec.json.encode(self._head | {"choices": [piece]}) + b"\n\n"

    def rest(self, choice: Choice, sent: int) -> Iterator[bytes]:
        """Write a choice but its first `sent` characters, to its end."""
        if choice.logprobs and not sent:
            for token in choice.logprobs:
                yield self.chunk(choice.index, {"content": token.token}, logprobs=(token,))
        else:
            for piece in _PIECE.findall(choice.text.text[sent:]):
                yield self.chunk(choice.index, {"content": piece})
        for place, call in enumerate(choice.tool_calls):
            whole = call_body(call)
            arguments = whole["function"]["arguments"]
            whole["function"]["arguments"] = ""
            yield self.chunk(choice.index, {"tool_calls": [{"index": place, **whole}]})
            for piece in _PIECE.findall(arguments):
                yield self.chunk(choice.index, {"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
        yield self.chunk(choice.index, {}, finish_reason=choice.finish_reason)

    def usage(self, usage: Usage) -> Iterator[bytes]:
        if self._include_usage:
            yield b"data: " + msgspec.json.encode(self._head | {"choices": [], "usage": usage_body(usage)}) + b"\n\n"
