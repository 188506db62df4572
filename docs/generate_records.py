"""Write `docs/records.md` and `docs/records.schema.json`: every kind of record and every field, from the types.

Meanings stand in `records_fields.txt` and in the docstrings of the types; a test checks that both pages are current. A
field that the file does not know stops it, so that nobody adds one without saying whether it can hold personal data.
"""

from __future__ import annotations

import inspect
import json
import sys
import types
import typing
from pathlib import Path

import msgspec

from gateway.records import Record

FOLDER = Path(__file__).parent
FIELDS = FOLDER / "records_fields.txt"
PAGE = FOLDER / "records.md"
SCHEMA = FOLDER / "records.schema.json"

_HEAD = """# Records

Written by `make docs` from the types in `gateway/records/`; do not edit.

The log holds the records below and no others. Each is one line of JSON with sorted keys and without spaces
([why](decisions/0030-bytes-of-a-record.md)), and `type` names its kind and version. Fields marked *later* came after
the first version of their kind: where one is missing, its value is the default that is shown, for ever. The same as a
JSON Schema: [records.schema.json](records.schema.json).

What a field can hold of a person is one of three:

- **yes**: it names a person, or is written by one in their own words.
- **pseudonym**: it stands for a person or for content by a digest that is keyed with the gateway's secret.
- **no**: a code, a number, a digest of what is no secret, or a name that the gateway or its operator gave.

No record holds words of a prompt, of an answer or of an image.
"""

_KINDS = {
    "decision.v1": "What was asked, and what was decided",
    "opened.v1": "Streams that were opened",
    "access.v1": "Who looked at the log",
    "review.v1": "Who judged a decision afterwards",
    "hold.v1": "Legal holds",
    "erasure.v1": "Sealed content that was erased",
    "change.v1": "Changes of what decisions or access rest on",
    "break-glass.v1": "Access in an emergency",
    "reaudit.v1": "Past decisions that were judged again under another policy",
}

Meanings = dict[tuple[str, str], tuple[str, str]]


def meanings(file: Path = FIELDS) -> Meanings:
    """Read a file of meanings: by type and field, whether it is personal, and what it means."""
    found: Meanings = {}
    name = ""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        field, _, rest = line.partition(" ")
        if not rest:
            name = field
            continue
        personal, _, meaning = rest.partition(" ")
        if personal not in ("yes", "pseudonym", "no") or not meaning or (name, field) in found:
            raise SystemExit(f"{file.name}:{number}: expected a new `FIELD yes|pseudonym|no MEANING`")
        found[name, field] = (personal, meaning)
    return found


def structs(kind: object, seen: dict[str, type[msgspec.Struct]] | None = None) -> dict[str, type[msgspec.Struct]]:
    """Give every type that `kind` is made of, by name, in the order in which they are met."""
    seen = {} if seen is None else seen
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind.__name__ in seen:
            return seen
        seen[kind.__name__] = kind
        for field in msgspec.structs.fields(kind):
            structs(field.type, seen)
    for part in typing.get_args(kind):
        structs(part, seen)
    return seen


def _type(kind: object) -> str:
    """Write a type as people read it."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return "time" if "datetime" in str(parts[0]) else "number in 0..1"
    if origin is typing.Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if origin in (typing.Union, types.UnionType):
        some = [_type(part) for part in parts if part is not type(None)]
        return " or ".join(some) + (" or nothing" if type(None) in parts else "")
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return f"[`{kind.__name__}`](#{kind.__name__.lower()})"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names[typing.cast("type", kind)]


def _table(kind: type[msgspec.Struct], known: Meanings, used: set[tuple[str, str]]) -> list[str]:
    lines = ["| field | type | since | personal | what it is |", "| --- | --- | --- | --- | --- |"]
    for field in msgspec.structs.fields(kind):
        key = (kind.__name__, field.name) if (kind.__name__, field.name) in known else ("*", field.name)
        if key not in known:
            raise SystemExit(f"{FIELDS.name}: says nothing of `{kind.__name__}.{field.name}`; add it there")
        used.add(key)
        personal, meaning = known[key]
        default = None if field.default is msgspec.NODEFAULT else json.dumps(field.default)
        since = "first" if default is None else f"later (`{default}`)"
        cells = (f"`{field.name}`", _type(field.type), since, personal, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def render(file: Path = FIELDS) -> str:
    """Give the page's text, with the meanings in `file`. Raises SystemExit where it and the types differ."""
    known, used = meanings(file), set[tuple[str, str]]()
    lines = [_HEAD]
    kinds = {kind.__struct_config__.tag: kind for kind in typing.get_args(Record)}
    lines += [f"- [`{tag}`](#{kind.__name__.lower()}): {_KINDS[str(tag)]}" for tag, kind in kinds.items()]
    for name, kind in structs(Record).items():
        tag = kind.__struct_config__.tag
        shown = [f"`type` is `{tag}`.", ""] if tag is not None else []
        lines += ["", f"## {name}", "", *shown, inspect.getdoc(kind) or "", "", *_table(kind, known, used)]
    if unknown := sorted(set(known) - used):
        raise SystemExit(f"{FIELDS.name}: there is no field {', '.join('.'.join(pair) for pair in unknown)}")
    return "\n".join(lines) + "\n"


def schema() -> str:
    """Give the JSON Schema of every record, with the meanings of the fields."""
    made = msgspec.json.schema(Record)
    known = meanings()
    for name, kind in structs(Record).items():
        part = made["$defs"][name]
        part["description"] = inspect.getdoc(kind)
        for field in msgspec.structs.fields(kind):
            personal, meaning = known.get((name, field.name)) or known["*", field.name]
            said = {"description": meaning, "x-personal": personal}
            place = part["properties"][field.name]
            part["properties"][field.name] = {"allOf": [place], **said} if "$ref" in place else {**place, **said}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Records of the decision log"}
    return json.dumps({**head, **made}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for target, text in ((PAGE, render()), (SCHEMA, schema())):
        target.write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {target}\n")
