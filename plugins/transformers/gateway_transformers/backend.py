"""The backend: a prompt in, a completion out, whole or as it is written; the model itself runs in a worker's thread."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

import torch

from gateway.plugin import (
    Choice,
    Completion,
    Ended,
    Image,
    Piece,
    Prompt,
    Text,
    UnseenNoting,
    Usage,
    in_thread,
    with_unseen_note,
)
from gateway_transformers import Config
from gateway_transformers.agreeing import fits
from gateway_transformers.answer import Written
from gateway_transformers.batched import Batched
from gateway_transformers.errors import PromptTooLong
from gateway_transformers.forwarding import use_rows
from gateway_transformers.jobs import Job, ScoreJob
from gateway_transformers.load import Loaded, load
from gateway_transformers.prompts import Read
from gateway_transformers.reading import Reader
from gateway_transformers.render import refuse_unsupported
from gateway_transformers.sampling import check
from gateway_transformers.single import Single
from gateway_transformers.worker import Limits, Worker

TURN_TOKENS, IMAGE_TOKENS = 32, 256
"""More than a template writes around a turn, and than an image takes that is told in words, without its text."""

PLENTY = 1024
"""Tokens that are enough for any answer that the gateway keeps room for; below, tokens are counted."""


class TransformersBackend:
    """Answers with one model in this process."""

    def __init__(self, config: Config, reader: Reader, worker: Worker) -> None:
        self._config = config
        self._reader = reader
        self.worker = worker

    @property
    def _loaded(self) -> Loaded:
        return self.worker.loaded

    def models(self) -> tuple[str, ...]:
        """Name the one model that is served."""
        return (self._config.model,)

    async def complete(self, prompt: Prompt) -> Completion:
        """Answer `prompt`.

        Raises:
            RequestRefused: the request asks for what this stage can not do.
            PromptTooLong: the prompt is longer than the model's context.
            QueueFull: too many requests wait.
            QueueLate: the request has waited for too long.
            GenerationFailed: the model failed while it wrote.
        """
        job = await self._job(prompt)
        self.worker.submit(job)
        answers = await job.result()
        blind = self._blind(prompt)
        ended = self._ended(job, answers, blind=blind)
        return Completion(
            model=ended.model,
            choices=tuple(
                Choice(
                    index=index,
                    text=Text(
                        id=f"choices[{index}].content", text=with_unseen_note(answer.text) if blind else answer.text
                    ),
                    finish_reason="stop" if answer.ended else "length",
                )
                for index, answer in enumerate(answers)
            ),
            usage=ended.usage,
            blind=ended.blind,
            revision=ended.revision,
        )

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | Ended, None]:
        """Answer `prompt` piece by piece; the texts add up to those of `complete`, and it raises what that raises.

        A reader that is slower than the model gets longer pieces. Closing the generator stops the writing before the
        next token.
        """
        job = await self._job(prompt, streamed=True)
        self.worker.submit(job)
        blind = self._blind(prompt)
        notes = {choice: UnseenNoting() for choice in range(prompt.request.sampling.n)} if blind else {}
        async with aclosing(job.pieces()) as pieces:
            async for choice, text, written in pieces:
                if blind:
                    text = notes[choice].add(text, last=written is not None)
                if written is not None:
                    yield Piece(choice=choice, text=text, finish_reason="stop" if written.ended else "length")
                elif text:
                    yield Piece(choice=choice, text=text)
        yield self._ended(job, tuple(job.written.values()), blind=blind)

    async def room(self, prompt: Prompt) -> int:
        """Give the tokens of the context that `prompt` leaves; images count as their processor spells them.

        A text has no more tokens than bytes. Where plenty is left by that count, that is what is given, and nothing is
        tokenised, or made into pixels, twice.
        """
        turns = prompt.chat()
        images = tuple(part for turn in turns for part in turn.parts if isinstance(part, Image))
        seen = self._reader.image_sizes(images) if self._reader.sees else len(images) * IMAGE_TOKENS
        if seen is not None:
            texts = [part.text for turn in turns for part in turn.parts if isinstance(part, Text)]
            most = sum(len(text.encode("utf-8", "replace")) for text in (*texts, *(t.text for t in prompt.found)))
            most += (len(turns) + 1) * TURN_TOKENS + seen
            if self._loaded.context - most >= PLENTY:
                return self._loaded.context - most
        read = await in_thread(self._read, prompt)
        return self._loaded.context - len(read.ids)

    async def score(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[float, ...]:
        """Give the log-probability of each of `answers`, spelled as the model's tokenizer spells it after `prompt`.

        The prompt's sampling does not count.

        Raises:
            ValueError: an answer is empty.
            RequestRefused: as `complete`, and so are the others.
        """
        refuse_unsupported(prompt.request)
        read, tokens = await in_thread(self._read_answers, prompt, answers)
        if not tokens or not all(tokens):
            raise ValueError("an answer is empty; give at least one answer, each of at least one letter")
        if len(read.ids) + max(map(len, tokens)) > self._loaded.context:
            raise PromptTooLong(
                "the prompt is longer than the model's context; shorten it, or show fewer demonstrations"
            )
        job = ScoreJob(read, answers=tokens)
        self.worker.submit(job)
        return await job.result()

    async def aclose(self) -> None:
        """Stop writing and unload the model."""
        await in_thread(self.worker.close)

    async def _job(self, prompt: Prompt, *, streamed: bool = False) -> Job:
        refuse_unsupported(prompt.request)
        sampling = prompt.request.sampling
        check(sampling)
        read = await in_thread(self._read, prompt)
        room = self._loaded.context - len(read.ids)
        if room < 1:
            raise PromptTooLong(
                "the prompt is longer than the model's context; shorten it, or lower the policy's budget"
            )
        most = min(room, sampling.max_tokens or self._config.max_new_tokens)
        return Job(read, sampling=sampling, most=most, streamed=streamed)

    def _ended(self, job: Job, answers: tuple[Written, ...], *, blind: bool) -> Ended:
        written = sum(answer.tokens for answer in answers)
        return Ended(
            model=self._config.model,
            usage=Usage(prompt_tokens=len(job.ids), completion_tokens=written),
            blind=blind,
            revision=self._loaded.revision,
        )

    def _blind(self, prompt: Prompt) -> bool:
        return not self._reader.sees and bool(prompt.request.images())

    def _read(self, prompt: Prompt) -> Read:
        return self._reader.read(prompt)

    def _read_answers(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[Read, tuple[list[int], ...]]:
        read = self._read(prompt)
        return read, self._reader.answers(read.text, answers)


def build(config: Config) -> TransformersBackend:
    """Load the model and start its thread."""
    threads = config.threads or max(1, _cores() - 1)  # one core is left to the event loop and the checks
    # loading is many small steps: threads would only wait for one another, ten times as long on a busy machine
    torch.set_num_threads(1)
    loaded = load(config)
    reader = Reader(loaded.tokenizer, loaded.processor)
    fit = fits(loaded, reader)
    torch.set_num_threads(threads)
    limits = Limits(
        batch=config.batch,
        queue=config.queue,
        patience=config.queue_seconds,
        threads=threads,
        kept=config.prefix_mib * 2**20,
        memory=loaded.memory,
        idle=config.unload_after,
    )

    def again() -> Loaded:
        anew = load(config)
        if fit is not None:
            use_rows(anew.model)
        return anew

    worker: Worker = Single(loaded, limits, again) if fit is None else Batched(loaded, limits, again, fit.joined)
    return TransformersBackend(config, reader, worker)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
