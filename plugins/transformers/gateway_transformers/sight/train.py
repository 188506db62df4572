"""``python -m gateway_transformers.sight.train``: train the projector, on two cores in about a quarter of an hour.

First it learns to give the embeddings of a caption's words, which needs no pass of the language model; then it is
tuned through the language model, which stays as it is, on short questions and answers.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from msgspec.json import encode
from msgspec.json import format as laid_out
from torch import nn

from gateway_transformers.embedded import SHA256 as LANGUAGE
from gateway_transformers.embedded import embedded_weights
from gateway_transformers.gguf import load_llama
from gateway_transformers.load import hush
from gateway_transformers.sight import MARK
from gateway_transformers.sight.features import Seen, features, pictures, trained_on, views
from gateway_transformers.sight.loading import PICTURE, SHA256, TEMPLATE, Manifest, image_processor, tower
from gateway_transformers.sight.network import TOKENS
from gateway_transformers.sight.words import CAPTIONS, dialogue


class Data(NamedTuple):
    """Features of all views, `[n, TOKENS, channels]`; `of` is each view's picture, `odds` how often it is drawn."""

    tokens: torch.Tensor
    of: np.ndarray
    odds: np.ndarray
    seen: list[Seen]


class Projector(nn.Module):  # type: ignore[misc]  # torch is not read by the type checker
    """Two layers, on features that are first scaled to unit spread and thinned out; the scaling is folded in later."""

    def __init__(self, tokens: torch.Tensor, width: int) -> None:
        super().__init__()
        flat = tokens.float().flatten(0, 1)
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("spread", flat.std(0).clamp_min(0.02))
        self.drop = nn.Dropout(0.25)
        self.linear_1, self.linear_2 = nn.Linear(flat.shape[1], width), nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Project `[..., channels]` to `[..., width]`."""
        scaled = self.drop((tokens.float() - self.mean) / self.spread)
        return self.linear_2(self.drop(nn.functional.gelu(self.linear_1(scaled))))

    def folded(self) -> dict[str, torch.Tensor]:
        """Give the weights of the plain projector of LLaVA, in half precision."""
        weight = self.linear_1.weight.detach() / self.spread
        made = {
            "linear_1.weight": weight,
            "linear_1.bias": self.linear_1.bias.detach() - weight @ self.mean,
            "linear_2.weight": self.linear_2.weight.detach(),
            "linear_2.bias": self.linear_2.bias.detach(),
        }
        return {name: value.half().contiguous() for name, value in made.items()}


def gather(data: Path, seed: int, copies: int) -> Data:
    """Look at every picture that is trained on, in several changed copies."""
    from tqdm import tqdm

    seen = [one for one in pictures(data, seed) if trained_on(one)]
    encoder, processor, rng = tower(), image_processor(), np.random.default_rng(seed)
    tokens, of = [], []
    for number, one in enumerate(tqdm(seen, desc="looking at pictures")):
        shown = list(views(one, copies if one.weight == 1.0 else 1, rng))
        tokens.append(features(encoder, processor, shown))
        of += [number] * len(shown)
    weights = np.array([one.weight for one in seen])
    kinds = np.array([one.kind for one in seen])
    for kind in set(kinds.tolist()):  # modalities weigh alike
        weights[kinds == kind] /= weights[kinds == kind].sum()
    of_ = np.array(of)
    odds = weights[of_] / np.bincount(of_)[of_]
    return Data(torch.cat(tokens), of_, odds / odds.sum(), seen)


def first(projector: Projector, data: Data, table: torch.Tensor, tokenizer: Any, steps: int, seed: int) -> None:
    """Regress onto the embeddings of caption words; `table` is `[words, width]`, as the language model has it."""
    from tqdm import tqdm

    goals = {}
    for kind, caption in CAPTIONS.items():
        ids = tokenizer(caption, add_special_tokens=False)["input_ids"]
        goals[kind] = table[[ids[place % len(ids)] for place in range(TOKENS)]].float()
    aim = torch.stack([goals[one.kind] for one in data.seen])
    size = float(table.float().std())
    rng = np.random.default_rng(seed)
    best = torch.optim.AdamW(projector.parameters(), lr=1e-3, weight_decay=0.05)
    plan = torch.optim.lr_scheduler.OneCycleLR(best, 1e-3, total_steps=steps)
    for _ in tqdm(range(steps), desc="words of captions"):
        rows = rng.choice(len(data.of), 64, p=data.odds)
        off = (projector(data.tokens[rows]) - aim[data.of[rows]]) / size
        loss = off.pow(2).mean()
        best.zero_grad()
        loss.backward()
        best.step()
        plan.step()


class Tuner:
    """Gives the loss of answers after pictures, through a language model that does not change."""

    def __init__(self, language: Any, tokenizer: Any) -> None:
        import jinja2

        self._language, self._tokenizer = language, tokenizer
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "@"}]}]
        text = jinja2.Template(TEMPLATE).render(messages=chat, add_generation_prompt=True)
        before, after = text.split(PICTURE)
        self._after = after.split("@")
        with torch.no_grad():
            read = language.model(input_ids=torch.tensor([self._ids(before)]), use_cache=True).past_key_values
        self._kept = [(layer.keys, layer.values) for layer in read.layers]
        self._lead = len(self._ids(before))

    def loss(self, shown: torch.Tensor, pairs: list[tuple[str, str]]) -> torch.Tensor:
        """Give the mean loss of the answers' tokens; `shown` is `[n, TOKENS, width]`."""
        asked = [self._ids(self._after[0] + q + self._after[1]) for q, _ in pairs]
        answers = [self._ids(a + "<|im_end|>") for _, a in pairs]
        longest = max(len(q) + len(a) for q, a in zip(asked, answers, strict=True))
        ids = torch.zeros(len(pairs), longest, dtype=torch.long)
        goal = torch.full((len(pairs), longest), -100)
        for row, (q, a) in enumerate(zip(asked, answers, strict=True)):
            ids[row, : len(q) + len(a)] = torch.tensor(q + a)
            goal[row, len(q) : len(q) + len(a)] = torch.tensor(a)
        words = self._language.model.embed_tokens(ids)
        whole = torch.cat([shown.to(words.dtype), words], 1)
        hidden = self._language.model(
            inputs_embeds=whole, past_key_values=self._cache(len(pairs)), use_cache=True
        ).last_hidden_state
        wanted = goal >= 0
        before = hidden[:, TOKENS - 1 : -1][wanted]
        logits = self._language.lm_head(before).float()
        return nn.functional.cross_entropy(logits, goal[wanted])

    def _cache(self, count: int) -> Any:
        from transformers import DynamicCache

        made = DynamicCache()
        for number, (keys, values) in enumerate(self._kept):
            made.update(keys.expand(count, -1, -1, -1), values.expand(count, -1, -1, -1), number)
        return made

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def second(projector: Projector, data: Data, tuner: Tuner, *, steps: int, batch: int, minutes: float, seed: int) -> int:
    """Tune through the language model for `steps` or `minutes`, whichever is over first; give the steps done."""
    from tqdm import tqdm

    rng = np.random.default_rng(seed)
    best = torch.optim.AdamW(projector.parameters(), lr=4e-4, weight_decay=0.05)
    start, done = time.monotonic(), 0
    bar = tqdm(range(steps), desc="answers")
    for done in bar:
        spent = max(done / steps, (time.monotonic() - start) / 60 / minutes)
        if spent >= 1:
            break
        best.param_groups[0]["lr"] = 4e-4 * min(1.0, (done + 1) / 10) * (0.05 + 0.95 * (1 - spent))
        rows = rng.choice(len(data.of), batch, p=data.odds)
        pairs = [dialogue(data.seen[n].kind, data.seen[n].region, rng) for n in data.of[rows]]
        loss = tuner.loss(projector(data.tokens[rows]), pairs)
        best.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
        best.step()
        bar.set_postfix(loss=f"{float(loss.detach()):.3f}")
    return done


def save(out: Path, projector: Projector) -> None:
    """Write the folder that the stage loads."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    path = out / "projector.safetensors"
    save_file(projector.folded(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = Manifest("medvlm-sight-1", path.name, digest, SHA256, LANGUAGE)
    (out / MARK).write_bytes(laid_out(encode(manifest), indent=2) + b"\n")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m gateway_transformers.sight.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of development data")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", type=int, default=10, help="changed copies of each photograph")
    parser.add_argument("--words", type=int, default=800, help="steps on words of captions")
    parser.add_argument("--steps", type=int, default=400, help="steps through the language model")
    parser.add_argument("--batch", type=int, default=12, help="pictures in each of these")
    parser.add_argument("--minutes", type=float, default=15.0, help="the most that these may take")
    asked = parser.parse_args()
    hush()
    torch.manual_seed(asked.seed)
    data = gather(asked.data, asked.seed, asked.copies)
    dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    read = load_llama(embedded_weights(), dtype)
    if read is None:
        raise ValueError("this release of transformers does not read the embedded model in the quick way")
    language, tokenizer = read
    language.eval().requires_grad_(requires_grad=False)
    projector = Projector(data.tokens, language.config.hidden_size)
    first(projector, data, language.model.embed_tokens.weight, tokenizer, asked.words, asked.seed)
    save(asked.out, projector)
    tuner = Tuner(language, tokenizer)
    second(projector, data, tuner, steps=asked.steps, batch=asked.batch, minutes=asked.minutes, seed=asked.seed)
    save(asked.out, projector)


if __name__ == "__main__":
    main()
