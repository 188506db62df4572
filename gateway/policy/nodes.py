"""YAML files as nodes with line numbers, and the problems found in them.

Files are read as YAML 1.2 core: `yes` and `off` are text, not booleans. One document, no anchors, no tags of other
types, no key twice, so that what a reader sees is what counts, and no alias can expand a small file into a large one.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
_TAG = "tag:yaml.org,2002:"
_TYPES = frozenset(_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map"))


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with the scalars of YAML 1.2 core in place of those of YAML 1.1."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - PyYAML's own registry, filled below


for _name, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)


class Problems:
    """The problems of one file, each with its line and its path in the file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._rows: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, where: yaml.Node | int, path: str, text: str) -> None:
        """Add a problem at a node or a line (1-based; 0: the file as a whole)."""
        line = where.start_mark.line + 1 if isinstance(where, yaml.Node) else where
        place = f"{self.file}:{line}" if line else str(self.file)
        self._rows.append((line, f"{place}: {path}: {text}" if path else f"{place}: {text}"))

    def lines(self) -> tuple[str, ...]:
        """Give the problems, each once, in the order of the file."""
        return tuple(dict.fromkeys(text for _, text in sorted(self._rows, key=lambda row: row[0])))


def read_bytes(file: Path, problems: Problems) -> bytes | None:
    """Read a regular file (or a link to one) of at most `MAX_BYTES`; None, with a problem, where that fails."""
    try:
        if not file.is_file():
            problems.add(0, "", "is no regular file, or a link to one that is gone; remove it or put the file there")
            return None
        with file.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except OSError as exc:
        problems.add(0, "", f"can not be read ({exc.strerror or type(exc).__name__})")
        return None
    if len(data) > MAX_BYTES:
        problems.add(0, "", f"is larger than {MAX_BYTES} bytes; a policy is a page or two")
        return None
    return data


def parse(data: bytes, problems: Problems) -> yaml.Node | None:
    """Parse one YAML document; None, with problems, where it can not be read at all."""
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        problems.add(line, "", "is not UTF-8 here; save the file as UTF-8")
        return None
    try:
        if not _shallow(text, problems):
            return None
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problems.add(mark.line + 1 if mark else 0, "", f"is not YAML: {exc.problem or exc.context}")
        return None
    except yaml.YAMLError as exc:
        place = getattr(exc, "position", None)
        line = text.count("\n", 0, place) + 1 if isinstance(place, int) else 0
        problems.add(line, "", "is not YAML: it holds a character that YAML does not take")
        return None
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}null"):
        problems.add(0, "", "is empty")
        return None
    _check_sound(node, "", problems)
    return node


def _shallow(text: str, problems: Problems) -> bool:
    """Look over the events before any tree is made: one document, no aliases, no bottomless nesting."""
    depth = documents = 0
    before = len(problems)
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents == 2:
                problems.add(line, "", "a second document begins here; write one document in each file")
        elif isinstance(event, yaml.AliasEvent):
            problems.add(line, "", f"the alias `*{event.anchor}` is not taken; write the value out where it counts")
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                problems.add(line, "", f"is nested deeper than {MAX_DEPTH} levels")
                return False
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return len(problems) == before


def _check_sound(node: yaml.Node, path: str, problems: Problems) -> None:
    """Find keys that stand twice or are no text, and values of other types than YAML's plain ones."""
    if node.tag not in _TYPES:
        problems.add(node, path, f"the tag `{node.tag.replace(_TAG, '!!')}` is not taken; write plain values")
    elif isinstance(node, yaml.ScalarNode):
        try:
            plain(node)
        except ValueError:
            problems.add(node, path, "can not be read as the type it looks like; put text in quotes")
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            _check_sound(item, f"{path}[{place}]", problems)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_TAG}str":
                problems.add(key, path, "keys are text; put other keys in quotes")
                continue
            name = key.value
            if name in seen:
                problems.add(key, join(path, name), f"stands twice, first in line {seen[name]}; remove one")
            seen.setdefault(name, key.start_mark.line + 1)
            _check_sound(value, join(path, name), problems)


def join(path: str, key: str) -> str:
    """Join a path in a file with a key of the mapping there."""
    return f"{path}.{key}" if path else key


def is_null(node: yaml.Node) -> bool:
    """Tell whether nothing is written there."""
    return bool(node.tag == f"{_TAG}null")


def pairs(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Give key, key node and value node of a mapping's text keys; nothing where the node is no mapping."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag == f"{_TAG}str":
                yield key.value, key, value


def child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """Give the value of a key; None where the node is no mapping or lacks it."""
    return next((value for name, _, value in pairs(node) if name == key), None)


def items(node: yaml.Node | None) -> tuple[yaml.Node, ...]:
    """Give the entries of a sequence; none where the node is none."""
    return tuple(node.value) if isinstance(node, yaml.SequenceNode) else ()


def plain(node: yaml.Node) -> Any:
    """Give the node as plain data. Raises ValueError for a scalar that its tag does not fit."""
    if isinstance(node, yaml.SequenceNode):
        return [plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {name: plain(value) for name, _, value in pairs(node)}
    text = str(node.value)
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            if text.lower() not in ("true", "false"):
                raise ValueError("no boolean")
            return text.lower() == "true"
        case "int":
            return int(text)
        case "float":
            return float(text.replace(".inf", "inf").replace(".nan", "nan") if "n" in text.lower() else text)
        case _:
            return text
