"""Many answers at once, on a text model: rows join and leave between tokens, and stable prefixes are read once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from gateway_transformers.answer import Answer
from gateway_transformers.load import Loaded
from gateway_transformers.rows import NAME, Prefixes, Row, attend, cuts
from gateway_transformers.sampling import Sampler
from gateway_transformers.worker import Job, ScoreJob, Worker


class Writing:
    """One answer in the batch. `ends` says where its prompt is cut; `last` is its newest token."""

    def __init__(self, job: Job, choice: int, answer: Answer, sampler: Sampler) -> None:
        self.job = job
        self.choice = choice
        self.answer = answer
        self.sampler = sampler
        self.row = Row(len(job.ids) + job.most)
        self.ends = cuts(len(job.ids), job.mark)
        self.last: int | None = None


class Scoring:
    """One prompt in the batch whose answers are not written but scored. It leaves when its prompt is read."""

    def __init__(self, job: ScoreJob) -> None:
        self.job = job
        self.row = Row(len(job.ids) + job.longest - 1)
        self.ends = cuts(len(job.ids), job.mark)


class Batched(Worker):
    """Continuous batching: each turn reads a block of each new prompt, then writes one token of every answer."""

    def __init__(self, loaded: Loaded, *, batch: int, queue: int, threads: int | None, prefix_bytes: int) -> None:
        self._loaded = loaded
        self._batch = batch
        self.prefixes = Prefixes(prefix_bytes)
        self._coming: list[Writing | Scoring] = []
        self._rows: list[Writing | Scoring] = []
        super().__init__(queue=queue, threads=threads)

    def active(self) -> list[Job | ScoreJob]:
        """Give the jobs with an answer in the batch or before it."""
        return list({id(w.job): w.job for w in (*self._rows, *self._coming)}.values())

    def drop(self) -> None:
        """Forget every answer."""
        self._rows, self._coming = [], []

    def turn(self) -> bool:
        """Admit, read a block of each new prompt, write one token of each answer."""
        self._rows = [w for w in self._rows if not w.job.cancelled]
        self._coming = [w for w in self._coming if not w.job.cancelled]
        while len(self._rows) < self._batch:
            if not self._coming:
                job = self.take()
                if job is None:
                    break
                self._coming.extend(self._begin(job))
            self._rows.append(self._coming.pop(0))
        for line in [w for w in self._rows if isinstance(w, Scoring) or w.last is None]:
            self._read(line)
        writing = [w for w in self._rows if isinstance(w, Writing)]
        self._write([w for w in writing if w.last is not None and w.answer.written is None])
        self._rows = [w for w in self._rows if not _done(w)]
        return bool(self._rows or self._coming)

    def _begin(self, job: Job | ScoreJob) -> Iterable[Writing | Scoring]:
        if isinstance(job, ScoreJob):
            yield Scoring(job)
            return
        words = self._loaded.model.get_input_embeddings().num_embeddings
        for choice in range(job.sampling.n):
            answer = Answer(self._loaded.tokenizer, job.sampling, job.most, self._loaded.ends)
            yield Writing(job, choice, answer, Sampler(job.sampling, choice, list(job.ids), words))

    def _read(self, line: Writing | Scoring) -> None:
        job, row = line.job, line.row
        if row.length or not self._copy(line):
            self.prefixes.load(row, job.ids, line.ends, job.mark)  # a neighbour may have read on since the last turn
        start = row.length
        end = next(e for e in line.ends if e > start)
        logits = forward(self._loaded.model, [list(job.ids[start:end])], [row])
        if end <= job.mark:
            self.prefixes.keep(row, job.ids, start, end)
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
            rows[-1].extend(line.row.read(0, line.row.length))
        if long:
            # shorter answers are filled up: what comes after an answer's end changes nothing before it
            tokens = [[*answers[place][:-1], *[0] * (most - len(answers[place]) + 1)] for place in long]
            told = torch.log_softmax(run(self._loaded.model, tokens, rows, keep=most).float(), dim=-1)
            for place, lines in zip(long, told, strict=True):
                sums[place] += sum(float(lines[at][token]) for at, token in enumerate(answers[place][1:]))
        return tuple(sums)

    def _copy(self, writing: Writing | Scoring) -> bool:
        """Take the prompt from a sibling that has read it, all but the last block, whose logits are needed."""
        end = ([0, *writing.ends])[-2]
        for other in self._rows:
            if other is not writing and other.job is writing.job and other.row.length >= end > 0:
                writing.row.extend(other.row.read(0, end))
                return True
        return False

    def _write(self, rows: list[Writing]) -> None:
        if not rows:
            return
        logits = forward(self._loaded.model, [[w.last or 0] for w in rows], [w.row for w in rows])
        for writing, line in zip(rows, logits, strict=True):
            self._take(writing, line)

    def _take(self, writing: Writing, logits: torch.Tensor) -> None:
        writing.last = writing.sampler.pick(logits)
        if writing.answer.add(writing.last) and writing.answer.written is not None:
            writing.job.write(writing.choice, writing.answer.written)


def _done(line: Writing | Scoring) -> bool:
    return line.row.length >= len(line.job.ids) if isinstance(line, Scoring) else line.answer.written is not None


def forward(model: Any, tokens: list[list[int]], rows: list[Row]) -> torch.Tensor:
    """Run `tokens` (as many for each row) after what each row holds; give the last logits, `[rows, vocabulary]`."""
    return run(model, tokens, rows, keep=1)[:, -1]


def run(model: Any, tokens: list[list[int]], rows: list[Row], *, keep: int) -> torch.Tensor:
    """Run `tokens` as `forward` does; give the last `keep` logits of each row, `[rows, keep, vocabulary]`."""
    count = len(tokens[0])
    starts = torch.tensor([[row.length] for row in rows], device=model.device)
    places = starts + torch.arange(count, device=model.device)
    out = model(
        input_ids=torch.tensor(tokens, device=model.device),
        position_ids=places,
        use_cache=False,
        logits_to_keep=keep,
        rows=tuple(rows),
    )
    for row in rows:
        row.length += count
    logits: torch.Tensor = out.logits[:, -keep:]
    return logits


def fits(model: Any) -> bool:
    """Try the batched way on a few tokens against the model's own, and say whether they agree.

    A model with attention of another kind (own masks, biases, recurrent layers) does not, and is then run its own way.
    """
    with torch.inference_mode():
        return _agree(model)


def _agree(model: Any) -> bool:
    from transformers import AttentionInterface

    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= {"full_attention", "sliding_attention"}:
        return False
    window = getattr(config, "sliding_window", None)
    # long enough that a window closes, where it is short; tokens from the middle of the vocabulary
    long = 24 if not isinstance(window, int) or window > 64 else window + 16
    ids = [(997 * n + 31) % config.vocab_size for n in range(long)]
    own = model.config._attn_implementation
    AttentionInterface.register(NAME, attend)
    try:
        wanted = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0]
        model.set_attn_implementation(NAME)
        one, two = Row(long + 1), Row(long + 1)
        got = {
            long // 2 - 1: forward(model, [ids[: long // 2]], [one])[0],
            long // 2 + 3: forward(model, [ids[long // 2 : long // 2 + 4]], [one])[0],
        }
        forward(model, [ids[:3]], [two])
        for at in range(long // 2 + 4, long):
            lines = forward(model, [[ids[at]], [ids[at - long // 2 - 1]]], [one, two])
            got[at] = lines[0]
        got[two.length - 1] = lines[1]
    except Exception:  # noqa: BLE001  whatever it raises, this model does not run this way
        model.set_attn_implementation(own)
        return False
    apart = max(float((got[at].float() - wanted[at].float()).norm() / wanted[at].float().norm()) for at in got)
    if apart > (1e-3 if model.dtype == torch.float32 else 5e-2):
        model.set_attn_implementation(own)
        return False
    return True
