"""Many answers at once: rows join and leave between tokens, stable prefixes are read once, and images are seen once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from gateway_transformers.answer import Answer
from gateway_transformers.forwarding import forward, run
from gateway_transformers.jobs import Job, ScoreJob
from gateway_transformers.load import Loaded
from gateway_transformers.rows import Prefixes, Row, cuts
from gateway_transformers.sampling import Sampler
from gateway_transformers.sightline import stretches
from gateway_transformers.worker import Limits, Worker


class Writing:
    """One answer in the batch. `ends` says where its prompt is cut; `last` is its newest token."""

    def __init__(self, job: Job, choice: int, answer: Answer, sampler: Sampler, ends: list[int]) -> None:
        self.job = job
        self.choice = choice
        self.answer = answer
        self.sampler = sampler
        self.row = Row(len(job.ids) + job.most)
        self.ends = ends
        self.last: int | None = None
        self.tokens = self.row.capacity


class Scoring:
    """One prompt in the batch whose answers are not written but scored. It leaves when its prompt is read.

    `tokens` counts the keys it needs at most, its answers' side by side.
    """

    def __init__(self, job: ScoreJob, ends: list[int]) -> None:
        self.job = job
        self.row = Row(len(job.ids) + job.longest - 1)
        self.ends = ends
        self.tokens = self.row.capacity * len(job.answers)


class Batched(Worker):
    """Continuous batching: each turn reads a block of each new prompt, then writes one token of every answer.

    `joined` are the tokens whose runs see themselves in both directions, as images do in some families.
    """

    def __init__(
        self, loaded: Loaded, limits: Limits, again: Callable[[], Loaded], joined: frozenset[int] = frozenset()
    ) -> None:
        self.prefixes = Prefixes(limits.kept)
        self._joined = joined
        self._coming: list[Writing | Scoring] = []
        self._rows: list[Writing | Scoring] = []
        super().__init__(loaded, limits, again)

    def active(self) -> list[Job | ScoreJob]:
        """Give the jobs with an answer in the batch or before it."""
        return list({id(w.job): w.job for w in (*self._rows, *self._coming)}.values())

    def drop(self) -> None:
        """Forget every answer."""
        self._rows, self._coming = [], []

    def forget(self) -> None:
        """Free the kept prefixes."""
        self.prefixes.clear()

    def turn(self) -> bool:
        """Admit, read a block of each new prompt, write one token of each answer."""
        self._rows = [w for w in self._rows if not w.job.cancelled]
        self._coming = [w for w in self._coming if not w.job.cancelled]
        self._admit()
        for line in [w for w in self._rows if isinstance(w, Scoring) or w.last is None]:
            self._read(line)
        writing = [w for w in self._rows if isinstance(w, Writing)]
        self._write([w for w in writing if w.last is not None and w.answer.written is None])
        self._rows = [w for w in self._rows if not _done(w)]
        return bool(self._rows or self._coming)

    def _admit(self) -> None:
        """Fill the batch with what waits, in order, as far as it and the memory go; who is next waits for room."""
        while len(self._rows) < self._limits.batch:
            if not self._coming:
                job = self.take(lambda job: not self._rows or self._room(_tokens(job)))
                if job is None:
                    return
                self._coming.extend(self._begin(job))
            if self._rows and not self._room(self._coming[0].tokens):
                return
            self._rows.append(self._coming.pop(0))

    def _room(self, tokens: int) -> bool:
        most, one = self._limits.memory, self.loaded.token_bytes
        return most is None or one * (tokens + sum(line.tokens for line in self._rows)) <= most

    def _begin(self, job: Job | ScoreJob) -> Iterable[Writing | Scoring]:
        loaded = self.loaded
        ends = cuts(len(job.ids), job.mark, stretches(job.ids, self._joined))
        if isinstance(job, ScoreJob):
            yield Scoring(job, ends)
            return
        words = loaded.model.get_input_embeddings().num_embeddings
        for choice in range(job.sampling.n):
            answer = Answer(loaded.tokenizer, job.sampling, job.most, loaded.ends)
            yield Writing(job, choice, answer, Sampler(job.sampling, choice, list(job.ids), words), ends)

    def _read(self, line: Writing | Scoring) -> None:
        job, row = line.job, line.row
        if row.length or not self._copy(line):
            self.prefixes.load(row, job.key, line.ends, job.mark)  # a neighbour may have read on since the last turn
        start = row.length
        end = next(e for e in line.ends if e > start)
        logits = job.sight.read(self.loaded.model, row, end, self._joined)
        if end <= job.mark:
            self.prefixes.keep(row, job.key(end), start, end)
        if end == len(job.ids) and isinstance(line, Writing):
            self._take(line, logits[0])
        elif end == len(job.ids) and isinstance(line, Scoring):
            line.job.finish(self._score(line, logits[0]))

    def _score(self, line: Scoring, logits: torch.Tensor) -> tuple[float, ...]:
        """Give the log-probability of each answer: its first token's from `logits`, the rest by one more pass."""
        answers, most = line.job.answers, line.job.longest - 1
        first = torch.log_softmax(logits.float(), dim=-1)
        sums = [float(first[answer[0]]) for answer in answers]
        long = [place for place, answer in enumerate(answers) if len(answer) > 1]
        rows = [line.row]
        for _ in long[1:]:
            rows.append(Row(line.row.capacity))
            rows[-1].extend(line.row.read(0, line.row.length), line.row.place)
        if long:
            # shorter answers are filled up: what comes after an answer's end changes nothing before it
            tokens = [[*answers[place][:-1], *[0] * (most - len(answers[place]) + 1)] for place in long]
            told = torch.log_softmax(run(self.loaded.model, tokens, rows, keep=most).float(), dim=-1)
            for place, lines in zip(long, told, strict=True):
                sums[place] += sum(float(lines[at][token]) for at, token in enumerate(answers[place][1:]))
        return tuple(sums)

    def _copy(self, writing: Writing | Scoring) -> bool:
        """Take the prompt from a sibling that has read it, all but the last block, whose logits are needed."""
        end = ([0, *writing.ends])[-2]
        for other in self._rows:
            if other is not writing and other.job is writing.job and other.row.length >= end > 0:
                # past `end`, places of a prompt with images come from the views that the sibling has made
                place = other.row.place if other.row.length == end else end
                writing.row.extend(other.row.read(0, end), place)
                return True
        return False

    def _write(self, rows: list[Writing]) -> None:
        if not rows:
            return
        logits = forward(self.loaded.model, [[w.last or 0] for w in rows], [w.row for w in rows])
        for writing, line in zip(rows, logits, strict=True):
            self._take(writing, line)

    def _take(self, writing: Writing, logits: torch.Tensor) -> None:
        writing.last = writing.sampler.pick(logits)
        writing.answer.add(writing.last)
        writing.job.grow(writing.choice, writing.answer)


def _done(line: Writing | Scoring) -> bool:
    return line.row.length >= len(line.job.ids) if isinstance(line, Scoring) else line.answer.written is not None


def _tokens(job: Job | ScoreJob) -> int:
    if isinstance(job, ScoreJob):
        return (len(job.ids) + job.longest - 1) * len(job.answers)
    return len(job.ids) + job.most
