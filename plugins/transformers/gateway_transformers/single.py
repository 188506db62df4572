"""One request at a time, by the model's own `generate`: for models whose attention is of an unusual kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gateway_transformers.answer import Answer
from gateway_transformers.errors import ModelClosed
from gateway_transformers.jobs import Job, ScoreJob
from gateway_transformers.load import Loaded
from gateway_transformers.sampling import Sampler
from gateway_transformers.sightline import placed
from gateway_transformers.worker import Limits, Worker


class Single(Worker):
    """Runs `generate` for each job; its answers are written together, as many as the batch and the memory allow."""

    def __init__(self, loaded: Loaded, limits: Limits, again: Callable[[], Loaded]) -> None:
        self._job: Job | ScoreJob | None = None
        super().__init__(loaded, limits, again)

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
            self._score(job)
        elif job is not None:
            for some in self._shares(job.sampling.n, len(job.ids) + job.most):
                if not (job.cancelled or self.closing):
                    self._generate(job, _Choices(self.loaded, job, some, self), count=len(some), most=job.most)
        if job is not None and self.closing:
            job.fail(ModelClosed("the model is unloaded"))  # which a job that is finished does not hear
        self._job = None
        return False

    def _score(self, job: ScoreJob) -> None:
        sums: list[float] = []
        for some in self._shares(len(job.answers), len(job.ids) + job.longest):
            scores = _Scores(job, job.answers[some.start : some.stop], self)
            self._generate(job, scores, count=len(some), most=scores.longest)
            if not scores.whole:
                return
            sums += scores.sums
        job.finish(tuple(sums))

    def _shares(self, count: int, tokens: int) -> list[range]:
        """Part `count` answers of at most `tokens` tokens into groups that are written at once."""
        limits, most = self._limits, self._limits.batch
        if limits.memory is not None:
            most = max(1, min(most, limits.memory // (tokens * self.loaded.token_bytes)))
        return [range(start, min(start + most, count)) for start in range(0, count, most)]

    def _generate(self, job: Job | ScoreJob, choices: _Choices | _Scores, *, count: int, most: int) -> None:
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        model, ends = self.loaded.model, sorted(self.loaded.ends)
        pad = self.loaded.tokenizer.pad_token_id
        model.generate(
            **placed(model, job.sight.inputs),
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


class _Choices:
    """Chooses the tokens of some of a job's answers inside `generate`, and ends it early."""

    def __init__(self, loaded: Loaded, job: Job, numbers: range, worker: Single) -> None:
        self._job = job
        self._numbers = numbers
        self._worker = worker
        words = loaded.model.get_input_embeddings().num_embeddings
        self._samplers = [Sampler(job.sampling, n, list(job.ids), words) for n in numbers]
        self._answers = [Answer(loaded.tokenizer, job.sampling, job.most, loaded.ends) for _ in numbers]

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
            answer.add(token)
            self._job.grow(self._numbers[row], answer)
        return chosen

    def done(self, ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        """Say which rows are complete; all of them where nobody waits any more."""
        over = self._job.cancelled or self._worker.closing
        flags = [over or answer.written is not None for answer in self._answers]
        return torch.tensor(flags, dtype=torch.bool, device=ids.device)


class _Scores:
    """Makes `generate` write the given answers, and sums up how likely each of their tokens was."""

    def __init__(self, job: ScoreJob, answers: tuple[list[int], ...], worker: Single) -> None:
        self._job = job
        self._answers = answers
        self._worker = worker
        self._at = 0
        self.longest = max(map(len, answers))
        self.sums = [0.0] * len(answers)

    @property
    def whole(self) -> bool:
        """Say whether the longest answer has been read to its end."""
        return self._at >= self.longest

    def choose(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Leave only the next token of each row's answer possible in `scores`, `[answers, vocabulary]`."""
        told = torch.log_softmax(scores.float(), dim=-1)
        only = torch.full_like(scores, float("-inf"))
        for row, answer in enumerate(self._answers):
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
