"""The personalities that answer with an error of HTTP, or with one in the middle of a stream."""

from __future__ import annotations

from gateway.testing.upstream.personality import personality
from gateway.testing.upstream.streams import send_events
from gateway.testing.upstream.talk import Talk, error_body


def _quoting(talk: Talk, message: str) -> str:
    """Give a message with the script's text in it, as servers quote what they were doing."""
    return f"{message}: {''.join(talk.draft.choices[0].tokens)}"


async def _busy(talk: Talk, seconds: str) -> None:
    extra = (f"retry-after: {seconds or '1'}",)
    await talk.error(429, "too many requests; ask again later", "rate_limit_exceeded", extra=extra)


@personality("busy", "answers with status 429 and a `Retry-After` of so many seconds (1)", "seconds")
async def _always_busy(talk: Talk, argument: str) -> None:
    await _busy(talk, argument)


@personality("busy-once", "answers the first request for this model as `busy` does, and others as it should", "seconds")
async def _busy_once(talk: Talk, argument: str) -> None:
    if talk.number == 1:
        await _busy(talk, argument)
    else:
        await talk.say()


@personality("error-500", "answers with status 500 and a message that quotes the script's text")
async def _error_500(talk: Talk, _argument: str) -> None:
    await talk.error(500, _quoting(talk, "failed while it wrote"), "internal_error")


@personality("error-503-once", "answers the first request for this model with status 503, and others as it should")
async def _error_503_once(talk: Talk, _argument: str) -> None:
    if talk.number == 1:
        await talk.error(503, _quoting(talk, "the model is being loaded, and was to say"), "unavailable")
    else:
        await talk.say()


@personality("error-in-stream", "writes an error in the middle of a stream, or in the answer's place, and ends")
async def _error_in_stream(talk: Talk, _argument: str) -> None:
    error = error_body(_quoting(talk, "out of memory while it wrote"), "internal_error")
    if talk.asked.stream:
        events = list(talk.draft.events())
        await send_events(talk, [*events[: len(events) // 2], b"data: " + error + b"\n\n"])
    else:
        await talk.whole(error)


@personality("context-length", "answers with status 400: the prompt is too long (with `vllm`: in its words)", "vllm")
async def _context_length(talk: Talk, argument: str) -> None:
    asked = talk.draft.prompt_tokens
    message = f"This model's maximum context length is 16 tokens. However, your messages resulted in {asked} tokens."
    if argument:
        await talk.error(400, message, "400", kind="BadRequestError")
    else:
        await talk.error(400, message, "context_length_exceeded", kind="invalid_request_error")


@personality("refused", "answers with status 422: the server is well and takes no such request")
async def _refused(talk: Talk, _argument: str) -> None:
    await talk.error(422, _quoting(talk, "unprocessable"), "invalid_value", kind="invalid_request_error")
