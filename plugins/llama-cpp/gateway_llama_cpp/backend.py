"""The backend: a prompt in, an answer out, whole or piece by piece; the model itself runs in a worker's thread."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from gateway.plugin import (
    Choice,
    Completion,
    Ended,
    FinishReason,
    Piece,
    Prompt,
    Text,
    UnseenNoting,
    Usage,
    in_thread,
    with_unseen_note,
)
from gateway_llama_cpp import Config
from gateway_llama_cpp.answer import Written
from gateway_llama_cpp.errors import PromptTooLong, RequestRefused
from gateway_llama_cpp.jobs import Job, Read
from gateway_llama_cpp.model import Model
from gateway_llama_cpp.render import Renderer, lead
from gateway_llama_cpp.sampling import check
from gateway_llama_cpp.weights import weights
from gateway_llama_cpp.words import refuse_unsupported
from gateway_llama_cpp.worker import Worker
from gateway_llama_cpp.writer import BatchWriter

TURN_TOKENS, IMAGE_TOKENS = 32, 256
"""More than a template writes around a turn, and than an image takes that is told in words, without its text."""

PLENTY = 1024
"""Tokens that are enough for any answer that the gateway keeps room for; below, tokens are counted."""

_LONG = "the prompt is longer than the model's context; shorten it, or lower the policy's budget"


class LlamaCppBackend:
    """Answers with one model in this process."""

    def __init__(self, config: Config, model: Model, renderer: Renderer, digest: str) -> None:
        self._config = config
        self._model = model
        self._renderer = renderer
        self._revision = f"sha256:{digest}"
        self.writer = BatchWriter(model, batch=config.batch, prefix_bytes=config.prefix_mib * 2**20)
        self.worker = Worker(self.writer, queue=config.queue, seconds=config.queue_seconds)

    def models(self) -> tuple[str, ...]:
        """Name the one model that is served."""
        return (self._config.model,)

    async def complete(self, prompt: Prompt) -> Completion:
        """Answer `prompt`.

        An answer that ends on the note that its images were not seen has no log-probabilities: the model did not write
        that sentence.

        Raises:
            RequestRefused: the request asks for what this stage can not do.
            PromptTooLong: the prompt leaves nothing of the model's context.
            QueueFull: too many requests wait.
            QueueLate: it waited too long for its turn.
            GenerationFailed: the model failed while it wrote.
        """
        read, job = await self._ask(prompt)
        written: dict[int, Written] = {}
        async with contextlib.aclosing(job.events()) as events:
            async for event in events:
                if event.written is not None:
                    written[event.choice] = event.written
        blind = bool(prompt.request.images())
        return Completion(
            model=self._config.model,
            choices=tuple(_choice(number, written[number], blind=blind) for number in sorted(written)),
            usage=_usage(read, written),
            blind=blind,
            revision=self._revision,
        )

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | Ended, None]:
        """Answer `prompt` as `complete` does, piece by piece; closing it stops the writing.

        Raises:
            RequestRefused: also where log-probabilities are asked for, which a piece can not carry.
            Exception: what `complete` raises.
        """
        if prompt.request.sampling.logprobs is not None:
            raise RequestRefused("`logprobs` are not given piece by piece; ask without `stream`, or for none")
        read, job = await self._ask(prompt, streamed=True)
        blind = bool(prompt.request.images())
        written: dict[int, Written] = {}
        notes = [UnseenNoting() for _ in range(job.sampling.n)] if blind else []
        async with contextlib.aclosing(job.events()) as events:
            async for event in events:
                if event.written is not None:
                    written[event.choice] = event.written
                last = event.written
                text = notes[event.choice].add(event.text, last=last is not None) if blind else event.text
                if text or last is not None:
                    reason = None if last is None else _reason(last)
                    yield Piece(choice=event.choice, text=text, finish_reason=reason)
        yield Ended(model=self._config.model, usage=_usage(read, written), blind=blind, revision=self._revision)

    async def room(self, prompt: Prompt) -> int:
        """Give the tokens of the context that `prompt` leaves.

        A text has no more tokens than bytes. Where plenty is left by that count, that is what is given, and nothing is
        tokenised twice.
        """
        turns = prompt.chat()
        texts = [part.text for turn in turns for part in turn.parts if isinstance(part, Text)]
        most = sum(len(text.encode("utf-8", "replace")) for text in (*texts, *(t.text for t in prompt.found)))
        most += (len(turns) + 1) * TURN_TOKENS + len(prompt.request.images()) * IMAGE_TOKENS
        if self._model.context - most >= PLENTY:
            return self._model.context - most
        return self._model.context - len((await in_thread(self.read, prompt)).ids)

    async def score(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[float, ...]:
        """Give the log-probability of each of `answers`, spelled as the model's tokenizer spells it after `prompt`.

        The prompt's sampling does not count.

        Raises:
            RequestRefused: the request asks for what this stage can not do, or an answer is empty.
            Exception: what `complete` raises.
        """
        refuse_unsupported(prompt.request)
        read, tokens = await in_thread(self._read_answers, prompt, answers)
        if not tokens or not all(tokens):
            raise RequestRefused("an answer is empty; give at least one answer, each of at least one letter")
        if len(read.ids) + max(map(len, tokens)) > self._model.context:
            raise PromptTooLong(_LONG)
        job = Job(read, answers=tokens)
        self.worker.submit(job)
        return await job.scores()

    async def aclose(self) -> None:
        """Stop writing and unload the model."""
        await in_thread(self.worker.close)

    def read(self, prompt: Prompt) -> Read:
        """Render and tokenise `prompt`. Blocks."""
        turns = prompt.chat()
        text = self._renderer.text(self._renderer.messages(turns, prompt.found))
        ids = self._model.tokens(text)
        before = turns[: lead(prompt)]
        mark = 0
        if before:
            stable = self._model.tokens(self._renderer.text(self._renderer.messages(before), ask=False))
            while mark < min(len(stable), len(ids)) and stable[mark] == ids[mark]:
                mark += 1
        return Read(text=text, ids=tuple(ids), mark=mark)

    async def _ask(self, prompt: Prompt, *, streamed: bool = False) -> tuple[Read, Job]:
        refuse_unsupported(prompt.request)
        sampling = prompt.request.sampling
        check(sampling)
        read = await in_thread(self.read, prompt)
        room = self._model.context - len(read.ids)
        if room < 1:
            raise PromptTooLong(_LONG)
        most = min(room, sampling.max_tokens or self._config.max_new_tokens)
        job = Job(read, sampling=sampling, most=most, streamed=streamed)
        self.worker.submit(job)
        return read, job

    def _read_answers(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[Read, tuple[tuple[int, ...], ...]]:
        read = self.read(prompt)
        return read, tuple(self._after(read, self._renderer.safe(answer)) for answer in answers)

    def _after(self, read: Read, answer: str) -> tuple[int, ...]:
        """Give the tokens of `answer` as they stand after `read`: some tokenizers put a space before a first word."""
        whole = tuple(self._model.tokens(read.text + answer))
        start = len(read.ids)
        return whole[start:] if whole[:start] == read.ids else tuple(self._model.tokens(answer))


def _choice(number: int, written: Written, *, blind: bool) -> Choice:
    return Choice(
        index=number,
        text=Text(id=f"choices[{number}].content", text=with_unseen_note(written.text) if blind else written.text),
        finish_reason=_reason(written),
        logprobs=None if blind else written.logprobs,
    )


def _reason(written: Written) -> FinishReason:
    return "stop" if written.ended else "length"


def _usage(read: Read, written: dict[int, Written]) -> Usage:
    return Usage(prompt_tokens=len(read.ids), completion_tokens=sum(answer.tokens for answer in written.values()))


def build(config: Config) -> LlamaCppBackend:
    """Load the model and start its thread."""
    path, digest = weights(config)
    template = None if config.chat_template is None else _template(config.chat_template)
    model = Model(
        path,
        context=config.context,
        sequences=config.batch,
        threads=config.threads or max(1, _cores() - 1),  # one core is left to the event loop and the checks
    )
    try:
        found = model.template if template is None else template
        renderer = Renderer(found, controls=model.controls(), bos=model.word("bos"), eos=model.word("eos"))
    except BaseException:
        model.close()
        raise
    return LlamaCppBackend(config, model, renderer, digest)


def _template(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"the `chat_template` `{path}` can not be read ({type(exc).__name__})") from exc


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
