"""Many answers at once: rows join and leave between tokens, and prefixes that come again are read once.

A row is one answer being written, or one prompt whose answers are scored. Prompts are read one at a time and cut at
fixed places, so that what a row computes does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.plugin import TokenLogprob
from gateway_llama_cpp.answer import Answer
from gateway_llama_cpp.jobs import Job
from gateway_llama_cpp.model import LONGEST, DecodeFailed, Model, Place
from gateway_llama_cpp.prefixes import Prefixes, cuts
from gateway_llama_cpp.sampling import Logits, Sampler, likeliest, told


class Row:
    """A prompt in the batch. `at` counts the tokens of it and of its answer that the model has read."""

    def __init__(self, job: Job, choice: int, sequence: int) -> None:
        self.job = job
        self.choice = choice
        self.sequence = sequence
        self.at = 0
        self.ends = cuts(len(job.ids), job.mark)
        self.next: int | None = None
        self.answer = Answer(job.sampling, job.most)
        self.sampler = Sampler(job.sampling, choice, job.ids)

    @property
    def reading(self) -> bool:
        """Say whether a part of the prompt is still to be read."""
        return self.at < len(self.job.ids)

    @property
    def done(self) -> bool:
        """Say whether nothing is left to do."""
        return not self.reading if self.job.answers else self.answer.written is not None


class BatchWriter:
    """Writes and scores answers with one model. All methods belong to one thread."""

    def __init__(self, model: Model, *, batch: int, prefix_bytes: int) -> None:
        self.model = model
        self.prefixes = Prefixes(prefix_bytes)
        self.reused = 0
        self.widest = 0
        self._free = list(range(batch))
        self._coming: list[tuple[Job, int]] = []
        self._rows: list[Row] = []

    def active(self) -> list[Job]:
        """Give the jobs with an answer in the batch or before it."""
        return list(dict.fromkeys([row.job for row in self._rows] + [job for job, _ in self._coming]))

    def drop(self) -> None:
        """Forget every row, and what the model remembers."""
        self._free += [row.sequence for row in self._rows]
        self._rows, self._coming = [], []
        self.model.forget()

    def close(self) -> None:
        """Free the model."""
        self.prefixes.clear()
        self.model.close()

    def turn(self, take: Callable[[], Job | None]) -> bool:
        """Admit, read a block of the oldest new prompt, write one token of each answer; say whether work is left."""
        self._leave([row for row in self._rows if row.job.cancelled])
        self._coming = [(job, choice) for job, choice in self._coming if not job.cancelled]
        self._admit(take)
        reading = next((row for row in self._rows if row.reading), None)
        if reading is not None:
            self._read(reading)
        self._write([row for row in self._rows if row.next is not None and not row.done])
        self._leave([row for row in self._rows if row.done])
        return bool(self._rows or self._coming)

    def _admit(self, take: Callable[[], Job | None]) -> None:
        while self._free:
            if not self._coming:
                job = take()
                if job is None:
                    return
                self._coming = [(job, choice) for choice in range(1 if job.answers else job.sampling.n)]
            self._rows.append(Row(*self._coming.pop(0), self._free.pop()))

    def _read(self, row: Row) -> None:
        ids = row.job.ids
        if not row.at:
            self._begin(row)
        end = next(end for end in row.ends if end > row.at)
        places = [
            Place(token=ids[at], at=at, sequence=row.sequence, told=at == len(ids) - 1) for at in range(row.at, end)
        ]
        logits = self.model.run(places)
        row.at = end
        if end == row.job.mark and not self.prefixes.has(ids[:end]):
            # nothing of the caller's question has been read yet
            self.prefixes.add(ids[:end], self.model.save(row.sequence))
        if logits:
            self._hear(row, logits[0])

    def _begin(self, row: Row) -> None:
        """Give `row` what has been read already, by another choice of the same job or for an earlier request."""
        twin = next((r for r in self._rows if r is not row and r.job is row.job and not r.reading), None)
        if twin is not None and len(row.ends) > 1:
            found: tuple[bytes, int] | None = (self.model.save(twin.sequence), row.ends[-2])
        else:
            found = self.prefixes.best(row.job.ids, row.ends)
        if found is not None and self.model.restore(row.sequence, found[0], end=found[1]):
            row.at = found[1]
            self.reused += row.at

    def _write(self, rows: list[Row]) -> None:
        if not rows:
            return
        self.widest = max(self.widest, len(rows))
        places = [Place(token=row.next or 0, at=row.at, sequence=row.sequence, told=True) for row in rows]
        for row, logits in zip(rows, self.model.run(places), strict=True):
            row.at += 1
            self._hear(row, logits)

    def _hear(self, row: Row, logits: Logits) -> None:
        """Choose the next token of a row's answer, or score all answers."""
        if row.job.answers:
            row.job.finish(self._score(row, logits))
            return
        token = row.sampler.pick(logits)
        row.next = token
        piece = None if self.model.ends(token) else self.model.piece(token)
        row.answer.add(piece, partial(self._told, token, logits, row.job.sampling.logprobs or 0))
        row.job.grow(row.choice, row.answer)

    def _told(self, token: int, logits: Logits, count: int) -> TokenLogprob:
        values = told(logits)
        top = tuple((self._spelled(place), float(values[place])) for place in likeliest(values, count))
        return TokenLogprob(token="", logprob=float(values[token]), top=top)

    def _spelled(self, token: int) -> str:
        return self.model.piece(token).decode("utf-8", "replace")

    def _score(self, row: Row, logits: Logits) -> tuple[float, ...]:
        """Give the log-probability of each answer: its first token's from `logits`, the rest by reading it."""
        first = told(logits)
        sums = [float(first[answer[0]]) for answer in row.job.answers]
        saved = self.model.save(row.sequence) if row.job.most > 1 else b""
        for number, answer in enumerate(row.job.answers):
            if len(answer) > 1:
                sums[number] += self._follow(row, answer)
                self.model.forget(row.sequence)
                if not self.model.restore(row.sequence, saved, end=row.at):
                    raise DecodeFailed("restore")
        return tuple(sums)

    def _follow(self, row: Row, answer: tuple[int, ...]) -> float:
        """Read `answer` after the prompt, and sum up the log-probability of each token after its first."""
        total = 0.0
        for start in range(0, len(answer) - 1, LONGEST):
            part = answer[start : min(start + LONGEST, len(answer) - 1)]
            places = [
                Place(token=token, at=row.at + start + place, sequence=row.sequence, told=True)
                for place, token in enumerate(part)
            ]
            following = answer[start + 1 : start + 1 + len(part)]
            lines = self.model.run(places)
            total += sum(float(told(line)[token]) for line, token in zip(lines, following, strict=True))
        return total

    def _leave(self, rows: list[Row]) -> None:
        for row in rows:
            self._rows.remove(row)
            self._free.append(row.sequence)
            self.model.forget(row.sequence)
