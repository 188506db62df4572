"""The backend: a prompt in, a completion out; the model itself runs in a worker's thread."""

from __future__ import annotations

import os
import threading
from typing import Any

import torch
from msgspec import Struct

from gateway.plugin import Choice, Completion, Image, Prompt, Text, Usage, in_thread
from gateway_transformers import Config
from gateway_transformers.batched import Batched, fits
from gateway_transformers.load import Loaded, load
from gateway_transformers.render import Renderer, lead, pixels, refuse_unsupported
from gateway_transformers.sampling import check
from gateway_transformers.single import Single
from gateway_transformers.worker import Job, ScoreJob, Worker

TURN_TOKENS, IMAGE_TOKENS = 32, 256
"""More than a template writes around a turn, and than an image takes that is told in words, without its text."""

PLENTY = 1024
"""Tokens that are enough for any answer that the gateway keeps room for; below, tokens are counted."""

BLIND_NOTE = "Note: this model reads text only and has not seen the image."
"""The last sentence of an answer whose request had an image that the model could not see."""


class _Read(Struct, frozen=True, kw_only=True):
    """A prompt as tokens, and as `text`. `mark` counts the tokens that come again in other requests."""

    text: str
    ids: list[int]
    mark: int = 0
    inputs: dict[str, Any] | None = None


class TransformersBackend:
    """Answers with one model in this process."""

    def __init__(self, config: Config, loaded: Loaded, worker: Worker) -> None:
        self._config = config
        self._loaded = loaded
        self.worker = worker
        self._sees = loaded.processor is not None
        self._renderer = Renderer(loaded.processor or loaded.tokenizer, loaded.tokenizer, images=self._sees)
        self._reading = threading.Lock()  # tokenizers change their own state while they read

    def models(self) -> tuple[str, ...]:
        """Name the one model that is served."""
        return (self._config.model,)

    async def complete(self, prompt: Prompt) -> Completion:
        """Answer `prompt`.

        Raises:
            ValueError: the request asks for what this stage can not do, or is longer than the model's context.
            QueueFull: too many requests wait.
            GenerationFailed: the model failed while it wrote.
        """
        refuse_unsupported(prompt.request)
        sampling = prompt.request.sampling
        check(sampling)
        read = await in_thread(self._read, prompt)
        room = self._loaded.context - len(read.ids)
        if room < 1:
            raise ValueError("the prompt is longer than the model's context; shorten it, or lower the policy's budget")
        most = min(room, sampling.max_tokens or self._config.max_new_tokens)
        job = Job(ids=read.ids, mark=read.mark, sampling=sampling, most=most, inputs=read.inputs)
        self.worker.submit(job)
        answers = await job.result()
        blind = not self._sees and bool(prompt.request.images())
        return Completion(
            model=self._config.model,
            choices=tuple(
                Choice(
                    index=index,
                    text=Text(id=f"choices[{index}].content", text=_noted(answer.text) if blind else answer.text),
                    finish_reason="stop" if answer.ended else "length",
                )
                for index, answer in enumerate(answers)
            ),
            usage=Usage(prompt_tokens=len(read.ids), completion_tokens=sum(answer.tokens for answer in answers)),
            blind=blind,
            revision=self._loaded.revision,
        )

    async def room(self, prompt: Prompt) -> int:
        """Give the tokens of the context that `prompt` leaves; images count as their processor spells them.

        A text has no more tokens than bytes. Where plenty is left by that count, that is what is given, and nothing is
        tokenised twice.
        """
        turns = prompt.chat()
        if not (self._sees and any(isinstance(part, Image) for turn in turns for part in turn.parts)):
            texts = [part.text for turn in turns for part in turn.parts if isinstance(part, Text)]
            most = sum(len(text.encode("utf-8", "replace")) for text in (*texts, *(t.text for t in prompt.found)))
            most += (len(turns) + 1) * TURN_TOKENS + len(prompt.request.images()) * IMAGE_TOKENS
            if self._loaded.context - most >= PLENTY:
                return self._loaded.context - most
        read = await in_thread(self._read, prompt)
        return self._loaded.context - len(read.ids)

    async def score(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[float, ...]:
        """Give the log-probability of each of `answers`, spelled as the model's tokenizer spells it after `prompt`.

        The prompt's sampling does not count.

        Raises:
            ValueError: as `complete`, or an answer is empty.
            QueueFull: too many requests wait.
            GenerationFailed: the model failed while it read.
        """
        refuse_unsupported(prompt.request)
        read, tokens = await in_thread(self._read_answers, prompt, answers)
        if not tokens or not all(tokens):
            raise ValueError("an answer is empty; give at least one answer, each of at least one letter")
        if len(read.ids) + max(map(len, tokens)) > self._loaded.context:
            raise ValueError("the prompt is longer than the model's context; shorten it, or show fewer demonstrations")
        job = ScoreJob(ids=read.ids, mark=read.mark, answers=tokens, inputs=read.inputs)
        self.worker.submit(job)
        return await job.result()

    async def aclose(self) -> None:
        """Stop writing and unload the model."""
        await in_thread(self.worker.close)

    def _read(self, prompt: Prompt) -> _Read:
        turns = prompt.chat()
        with self._reading:
            messages = self._renderer.messages(turns, prompt.found)
            text = self._renderer.text(messages)
            if self._sees:
                return self._read_images(text, pixels(messages))
            ids = self._tokens(text)
            before = turns[: lead(prompt)]
            stable = self._tokens(self._renderer.text(self._renderer.messages(before), ask=False)) if before else []
        mark = 0
        while mark < min(len(stable), len(ids)) and stable[mark] == ids[mark]:
            mark += 1
        return _Read(text=text, ids=ids, mark=mark)

    def _read_answers(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[_Read, tuple[list[int], ...]]:
        read = self._read(prompt)
        with self._reading:
            return read, tuple(self._after(read.text, self._renderer.safe(answer)) for answer in answers)

    def _after(self, text: str, answer: str) -> list[int]:
        """Give the tokens of `answer` as they stand after `text`: some tokenizers put a space before a first word."""
        before, whole = self._tokens(text), self._tokens(text + answer)
        return whole[len(before) :] if whole[: len(before)] == before else self._tokens(answer)

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _read_images(self, text: str, images: list[Any]) -> _Read:
        processor: Any = self._loaded.processor
        made = processor(text=[text], images=images or None, return_tensors="pt", add_special_tokens=False)
        return _Read(text=text, ids=made["input_ids"][0].tolist(), inputs=dict(made))


def _noted(text: str) -> str:
    return f"{text.rstrip()}\n\n{BLIND_NOTE}".lstrip()


def build(config: Config) -> TransformersBackend:
    """Load the model and start its thread."""
    threads = config.threads or max(1, _cores() - 1)  # one core is left to the event loop and the checks
    # loading is many small steps: threads would only wait for one another, ten times as long on a busy machine
    torch.set_num_threads(1)
    loaded = load(config)
    batched = loaded.processor is None and fits(loaded.model)
    torch.set_num_threads(threads)
    if batched:
        worker: Worker = Batched(
            loaded, batch=config.batch, queue=config.queue, threads=threads, prefix_bytes=config.prefix_mib * 2**20
        )
    else:
        worker = Single(loaded, queue=config.queue, threads=threads)
    return TransformersBackend(config, loaded, worker)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
