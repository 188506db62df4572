"""The library: pairs of demonstrations as YAML files, an order file, and a signed manifest with their SHA-256.

A pair is a harmful and a benign question over the same modality that share most of their words, so that what tells them
apart is the intent. `load` refuses a library whose files are not the ones that the manifest names, or whose manifest is
not signed.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Annotated, get_args

from msgspec import Meta, Struct

from gateway.plugin import Demonstration, Modality
from gateway_clinical.manifest import ORDER, PUBLIC_KEY, Order, read_yaml, verify_files, verify_signature

HOME = Path(__file__).parent / "library"
"""Where the library of this package lies."""

_Line = Annotated[str, Meta(min_length=8, max_length=600, pattern=r"^\S[^\n]*\S$")]


class Exchange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question with its answer, each one line."""

    question: _Line
    answer: _Line


class PairSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Twins as the file says them. `harm` and `task` are codes of the taxonomy: H01..H17 and B01..B15.

    `view` says in a few words what the picture shows, None where any picture of the modality fits. `pictured` is false
    where the phantoms can not draw what the question speaks of: a wrong picture would teach the wrong thing.
    """

    id: Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    harm: Annotated[str, Meta(pattern=r"^H(0[1-9]|1[0-7])$")]
    task: Annotated[str, Meta(pattern=r"^B(0[1-9]|1[0-5])$")]
    view: Annotated[str, Meta(min_length=2, max_length=80, pattern=r"^\S[^\n]*\S$")] | None = None
    pictured: bool = True
    harmful: Exchange
    benign: Exchange


class Chapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file: the pairs of a modality."""

    modality: Modality
    pairs: Annotated[tuple[PairSpec, ...], Meta(min_length=1)]


class Pair(Struct, frozen=True, kw_only=True):
    """Twins ready to be shown; `harmful` refuses and `benign` answers. `view` and `pictured` are the file's."""

    id: str
    modality: Modality
    harm: str
    task: str
    harmful: Demonstration
    benign: Demonstration
    view: str | None = None
    pictured: bool = True


class Library(Struct, frozen=True, kw_only=True):
    """The pairs in their fixed order, with the version and digest that identify them."""

    version: int
    sha256: str
    pairs: tuple[Pair, ...]


def load(folder: Path = HOME, public_key: str = PUBLIC_KEY) -> Library:
    """Read the library in `folder`, whose manifest must be signed by the holder of `public_key`.

    Raises:
        ValueError: with a hint, where the signature or a file is not the right one, or a file is not well formed.
    """
    verify_signature(folder, public_key)
    return read(folder)


def read(folder: Path = HOME) -> Library:
    """Read the library in `folder` without asking who signed it, for the tools that come before a signature.

    Raises:
        ValueError: with a hint, where a file is not the one that the manifest names, or is not well formed.
    """
    manifest = verify_files(folder)
    order = read_yaml(folder / ORDER, Order)
    pairs: list[Pair] = []
    for path in sorted(folder.glob("*.yaml")):
        if path.name != ORDER:
            chapter = read_yaml(path, Chapter)
            pairs += [_pair(chapter.modality, spec) for spec in chapter.pairs]
    return Library(version=order.version, sha256=manifest.sha256, pairs=_ordered(pairs, order))


def _ordered(pairs: list[Pair], order: Order) -> tuple[Pair, ...]:
    seen: dict[str, Pair] = {}
    for pair in pairs:
        if pair.id in seen:
            raise ValueError(f"pair `{pair.id}` stands twice in the library: give one of them another id")
        seen[pair.id] = pair
    for name in order.first:
        if name not in seen:
            raise ValueError(f"`{ORDER}` names `{name}` first, and no such pair is in the library: correct the id")
    if len(set(order.first)) != len(order.first):
        raise ValueError(f"`{ORDER}` names a pair twice in `first`: remove one of them")
    first = set(order.first)
    return (*(seen[name] for name in order.first), *_spread([pair for pair in pairs if pair.id not in first]))


def _pair(modality: Modality, spec: PairSpec) -> Pair:
    if spec.harmful.question == spec.benign.question:
        raise ValueError(f"the twins of pair `{spec.id}` ask the same question: word one of them differently")
    if spec.view is not None and not spec.pictured:
        raise ValueError(f"pair `{spec.id}` has a `view` and is not `pictured`: remove one of the two")

    def shown(exchange: Exchange, kind: str) -> Demonstration:
        return Demonstration(
            id=f"{spec.id}.{kind}",
            pair=spec.id,
            modality=modality,
            question=exchange.question,
            answer=exchange.answer,
            refuses=kind == "harmful",
        )

    return Pair(
        id=spec.id,
        modality=modality,
        harm=spec.harm,
        task=spec.task,
        harmful=shown(spec.harmful, "harmful"),
        benign=shown(spec.benign, "benign"),
        view=spec.view,
        pictured=spec.pictured,
    )


def _spread(pairs: list[Pair]) -> list[Pair]:
    """Take one pair of each modality in turn, modalities in the taxonomy's order."""
    rows = [[pair for pair in pairs if pair.modality == modality] for modality in get_args(Modality)]
    return [pair for column in zip_longest(*rows) for pair in column if pair is not None]
