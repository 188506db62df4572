"""The library: pairs of demonstrations as YAML files, an order file, and a manifest with their SHA-256.

A pair is a harmful and a benign question over the same modality that share most of their words, so that what tells them
apart is the intent. `load` refuses a library whose files are not the ones that the manifest names.
"""

from __future__ import annotations

import hashlib
import re
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import msgspec
import yaml
from msgspec import Meta, Struct

from gateway.plugin import Demonstration, Modality

HOME = Path(__file__).parent / "library"
"""Where the library of this package lies."""

MANIFEST = "manifest.json"
ORDER = "order.yaml"
_HINT = "run `python -m gateway_clinical.digest` after a reviewed change, or install the package again"
_Line = Annotated[str, Meta(min_length=8, max_length=600, pattern=r"^\S[^\n]*\S$")]


class Exchange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question with its answer, each one line."""

    question: _Line
    answer: _Line


class PairSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Twins as the file says them. `harm` and `task` are codes of the taxonomy: H01..H17 and B01..B15."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    harm: Annotated[str, Meta(pattern=r"^H(0[1-9]|1[0-7])$")]
    task: Annotated[str, Meta(pattern=r"^B(0[1-9]|1[0-5])$")]
    harmful: Exchange
    benign: Exchange


class Chapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file: the pairs of a modality."""

    modality: Modality
    pairs: Annotated[tuple[PairSpec, ...], Meta(min_length=1)]


class Order(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The library's version, and the pairs that come first in its fixed order."""

    version: Annotated[int, Meta(ge=1)]
    first: tuple[str, ...] = ()


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the library must be: its version, the SHA-256 of each file in hex, and the one over all of them."""

    version: int
    sha256: str
    files: dict[str, str]


class Pair(Struct, frozen=True, kw_only=True):
    """Twins ready to be shown; `harmful` refuses and `benign` answers."""

    id: str
    modality: Modality
    harm: str
    task: str
    harmful: Demonstration
    benign: Demonstration


class Library(Struct, frozen=True, kw_only=True):
    """The pairs in their fixed order, with the version and digest that identify them."""

    version: int
    sha256: str
    pairs: tuple[Pair, ...]


def manifest_of(folder: Path) -> Manifest:
    """Digest the YAML files in `folder`; the total is over ``name NUL sha256 LF`` of each, sorted by name."""
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.yaml"))}
    total = hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in files.items()).encode()).hexdigest()
    order = _read(folder / ORDER, Order)
    return Manifest(version=order.version, sha256=total, files=files)


def load(folder: Path = HOME) -> Library:
    """Read the library in `folder`; ValueError with a hint where it is not the manifest's or not well formed."""
    _verify(folder)
    order = _read(folder / ORDER, Order)
    pairs: list[Pair] = []
    for path in sorted(folder.glob("*.yaml")):
        if path.name != ORDER:
            chapter = _read(path, Chapter)
            pairs += [_pair(chapter.modality, spec) for spec in chapter.pairs]
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
    ordered = [seen[name] for name in order.first]
    ordered += _spread([pair for pair in pairs if pair.id not in order.first])
    return Library(version=order.version, sha256=manifest_of(folder).sha256, pairs=tuple(ordered))


def _verify(folder: Path) -> None:
    path = folder / MANIFEST
    try:
        wanted = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise ValueError(f"the demonstration library has no `{MANIFEST}`: {_HINT}") from None
    except msgspec.MsgspecError as exc:
        raise ValueError(f"`{MANIFEST}` of the demonstration library can not be read ({exc}): {_HINT}") from None
    found = manifest_of(folder)
    if found != wanted:
        names = sorted(n for n in {*found.files, *wanted.files} if found.files.get(n) != wanted.files.get(n))
        which = ", ".join(f"`{name}`" for name in names) or f"`{MANIFEST}`"
        raise ValueError(f"the demonstration library is not the one that its manifest names, see {which}: {_HINT}")


_T = TypeVar("_T", bound=Struct)


def _read(path: Path, kind: type[_T]) -> _T:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times as fast where it was built
    try:
        return msgspec.convert(yaml.load(path.read_bytes(), Loader=loader), kind)  # noqa: S506 -- a safe loader
    except FileNotFoundError:
        raise ValueError(f"the demonstration library has no `{path.name}`: install the package again") from None
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as exc:
        reason = re.sub(r"\s+", " ", str(exc))
        raise ValueError(f"`{path.name}` of the demonstration library is not well formed: {reason}") from None


def _pair(modality: Modality, spec: PairSpec) -> Pair:
    if spec.harmful.question == spec.benign.question:
        raise ValueError(f"the twins of pair `{spec.id}` ask the same question: word one of them differently")

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
    )


def _spread(pairs: list[Pair]) -> list[Pair]:
    """Take one pair of each modality in turn, modalities in the taxonomy's order."""
    rows = [[pair for pair in pairs if pair.modality == modality] for modality in get_args(Modality)]
    return [pair for column in zip_longest(*rows) for pair in column if pair is not None]
