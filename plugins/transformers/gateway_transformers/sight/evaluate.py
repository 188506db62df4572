"""``python -m gateway_transformers.sight.evaluate``: does a model name the modality of pictures it has not seen?

Each held-out picture (no source of which was trained on) is put to the model with sight and to the text-only default,
by the stage as it is served. An answer is right if it names the one true modality and no other.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.json import encode
from msgspec.json import format as laid_out

from gateway.plugin import Image, Prompt, Request, Sampling, Text, Turn
from gateway_transformers import EMBEDDED, Config, build
from gateway_transformers.sight import NAME
from gateway_transformers.sight.features import Seen, pictures, trained_on
from gateway_transformers.sight.words import ASKED, named

REGION = "Name the body part that is pictured."
REGIONS = {
    "torchxrayvision tests": ("chest", "lung"),
    "CHAOS": ("abdomen", "liver"),
    "Brain-Tumor-Detection": ("brain", "head"),
    "ANTsPy": ("brain", "head"),
    "LODE example": ("retina", "eye"),
}
"""What the pictures of a held-out source show; a right answer holds one of the words."""


class Answered(Struct, frozen=True, kw_only=True):
    """What one model said of one picture; `region_right` is None where the region is not known."""

    model: str
    picture: str
    source: str
    kind: str
    said: str
    right: bool
    said_region: str = ""
    region_right: bool | None = None


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Give the 95 % interval of a share (Wilson 1927)."""
    if not count:
        return 0.0, 1.0
    z, share = 1.96, hits / count
    middle = share + z * z / (2 * count)
    spread = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    scale = 1 + z * z / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def prompt_of(seen: Seen, question: str) -> Prompt:
    """Ask `question` about a picture; the answer is greedy and short."""
    out = io.BytesIO()
    seen.picture.save(out, "PNG")
    data = out.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    wide, high = seen.picture.size
    image = Image(id="i", data=data, media_type="image/png", width=wide, height=high, digest=digest, source="png")
    turn = Turn(role="user", parts=(image, Text(id="t", text=question)))
    sampling = Sampling(max_tokens=24, temperature=0.0)
    return Prompt(request=Request(id="e", department="evaluation", model="m", turns=(turn,), sampling=sampling))


async def answers(config: Config, shown: Sequence[Seen]) -> list[Answered]:
    """Ask one model about every picture."""
    from tqdm import tqdm

    backend, made = build(config), []
    for seen in tqdm(shown, desc=config.model):
        said = (await backend.complete(prompt_of(seen, ASKED))).choices[0].text.text
        words, region, right = REGIONS.get(seen.source), "", None
        if words:
            region = (await backend.complete(prompt_of(seen, REGION))).choices[0].text.text
            right = any(word in region.lower() for word in words)
        made.append(
            Answered(
                model=config.model,
                picture=seen.name,
                source=seen.source,
                kind=seen.kind,
                said=said,
                right=named(said) == seen.kind,
                said_region=region,
                region_right=right,
            )
        )
    await backend.aclose()
    return made


def table(made: Sequence[Answered]) -> str:
    """Sum up as Markdown: a row for each modality and one for all, a column for each model."""
    models = list(dict.fromkeys(one.model for one in made))
    lines = ["| | sources | pictures | " + " | ".join(models) + " |", "|---" * (3 + len(models)) + "|"]
    groups = [(kind, [one for one in made if one.kind == kind]) for kind in dict.fromkeys(one.kind for one in made)]
    groups.append(("all modalities", list(made)))
    groups.append(("body region", [one for one in made if one.region_right is not None]))
    for name, group in groups:
        cells = []
        for model in models:
            mine = [one for one in group if one.model == model]
            hits = sum(bool(one.region_right) if name == "body region" else one.right for one in mine)
            low, high = wilson(hits, len(mine))
            cells.append(f"{hits} ({low:.2f} to {high:.2f})")
        sources = len({one.source for one in group})
        lines.append(f"| {name} | {sources} | {len(group) // len(models)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, ask, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m gateway_transformers.sight.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of development data")
    parser.add_argument("--path", help="a folder of a model with sight; the embedded one where not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=10_000, help="the most pictures of a source")
    parser.add_argument("--out", type=Path, help="a JSON file for every answer")
    asked = parser.parse_args()
    counts: dict[str, int] = {}
    shown = []
    for seen in pictures(asked.data, asked.seed):
        if not trained_on(seen) and counts.get(seen.source, 0) < asked.limit:
            counts[seen.source] = counts.get(seen.source, 0) + 1
            shown.append(seen)
    made: list[Answered] = []
    for config in (Config(model=NAME, path=asked.path), Config(model=EMBEDDED)):
        made += asyncio.run(answers(config, shown))
    sys.stdout.write(table(made) + "\n")
    if asked.out:
        asked.out.write_bytes(laid_out(encode(made)))


if __name__ == "__main__":
    main()
