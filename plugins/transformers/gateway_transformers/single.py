"""One request at a time, by the model's own `generate`: models that see images, and attention of unusual kinds."""

from __future__ import annotations

from typing import Any

import torch

from gateway_transformers.answer import Answer
from gateway_transformers.load import Loaded
from gateway_transformers.sampling import Sampler
from gateway_transformers.worker import Job, ModelClosed, ScoreJob, Worker


class Single(Worker):
    """Runs `generate` for each job; its `n` answers are written together."""

    def __init__(self, loaded: Loaded, *, queue: int, threads: int | None) -> None:
        self._loaded = loaded
        self._job: Job | ScoreJob | None = None
        super().__init__(queue=queue, threads=threads)

    def active(self) -> list[Job | ScoreJob]:
        """Give the job at work."""
        return [self._job] if self._job else []

    def drop(self) -> None:
        """Forget the job at work."""
        self._job = None

    def turn(self) -> bool:
        """Write, or score, all answers of the next job."""
        job = self._job = self.take()
        if isinstance(job, ScoreJob):
            scores = _Scores(job, self)
            self._generate(job, scores, count=len(job.answers), most=job.longest)
            if scores.whole:
                job.finish(tuple(scores.sums))
        elif job is not None:
            choices = _Choices(self._loaded, job, self)
            self._generate(job, choices, count=job.sampling.n, most=job.most)
        if job is not None and self.closing:
            job.fail(ModelClosed("the model is unloaded"))  # which a job that is finished does not hear
        self._job = None
        return False

    def _generate(self, job: Job | ScoreJob, choices: _Choices | _Scores, *, count: int, most: int) -> None:
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        model, ends = self._loaded.model, sorted(self._loaded.ends)
        inputs = job.inputs or {"input_ids": torch.tensor([list(job.ids)])}
        inputs = {name: _place(value, model) for name, value in inputs.items()}
        pad = self._loaded.tokenizer.pad_token_id
        model.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=most,
                do_sample=True,  # from one possible token, see `choose`: only then are inputs copied for `n` answers
                top_k=0,
                num_return_sequences=count,
                eos_token_id=ends or None,
                pad_token_id=pad if pad is not None else (ends[0] if ends else 0),
            ),
            logits_processor=LogitsProcessorList([choices.choose]),
            stopping_criteria=StoppingCriteriaList([choices.done]),
        )

    @property
    def closing(self) -> bool:
        """Say whether the model is being unloaded."""
        return self._closed


class _Choices:
    """Chooses the tokens of a job's answers inside `generate`, and ends it early."""

    def __init__(self, loaded: Loaded, job: Job, worker: Single) -> None:
        self._job = job
        self._worker = worker
        words = loaded.model.get_input_embeddings().num_embeddings
        count = range(job.sampling.n)
        self._samplers = [Sampler(job.sampling, n, list(job.ids), words) for n in count]
        self._answers = [Answer(loaded.tokenizer, job.sampling, job.most, loaded.ends) for n in count]

    def choose(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Leave only the chosen token possible in each row of `scores`, `[answers, vocabulary]`."""
        chosen = torch.full_like(scores, float("-inf"))
        for row in range(len(scores)):
            answer = self._answers[row]
            if answer.written is not None:
                chosen[row, answer.tokens[-1]] = 0
                continue
            token = self._samplers[row].pick(scores[row])
            chosen[row, token] = 0
            if answer.add(token) and answer.written is not None:
                self._job.write(row, answer.written)
        return chosen

    def done(self, ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        """Say which rows are complete; all of them where nobody waits any more."""
        over = self._job.cancelled or self._worker.closing
        flags = [over or answer.written is not None for answer in self._answers]
        return torch.tensor(flags, dtype=torch.bool, device=ids.device)


class _Scores:
    """Makes `generate` write the given answers, and sums up how likely each of their tokens was."""

    def __init__(self, job: ScoreJob, worker: Single) -> None:
        self._job = job
        self._worker = worker
        self._at = 0
        self.sums = [0.0] * len(job.answers)

    @property
    def whole(self) -> bool:
        """Say whether the longest answer has been read to its end."""
        return self._at >= self._job.longest

    def choose(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Leave only the next token of each row's answer possible in `scores`, `[answers, vocabulary]`."""
        told = torch.log_softmax(scores.float(), dim=-1)
        only = torch.full_like(scores, float("-inf"))
        for row, answer in enumerate(self._job.answers):
            # an answer that has ended waits for the longer ones
            token = answer[min(self._at, len(answer) - 1)]
            only[row, token] = 0
            if self._at < len(answer):
                self.sums[row] += float(told[row, token])
        self._at += 1
        return only

    def done(self, ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        """Say that all rows are complete once the longest answer is, or nobody waits any more."""
        over = self._job.cancelled or self._worker.closing or self.whole
        return torch.full((len(ids),), over, dtype=torch.bool, device=ids.device)


def _place(value: Any, model: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)
