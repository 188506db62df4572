"""Check nodes of a file against msgspec types, and gather every mistake, each with its line, path and a hint.

msgspec stops at the first mistake, so this looks first; the value is then made by msgspec, which has the last word.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
import yaml
from msgspec import inspect

from gateway.errors import describe
from gateway.policy.model import Duration, convert
from gateway.policy.nodes import Problems, child, is_null, items, join, pairs, plain

_T = TypeVar("_T")
_LISTS = (inspect.ListType, inspect.VarTupleType, inspect.SetType, inspect.FrozenSetType)
_MAPPINGS = (inspect.StructType, inspect.DictType)
_SECRET = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)
_SHOWN = 40  # characters of a wrong value that a message quotes
_NAME = r"^[a-z0-9][a-z0-9-]{0,63}$"


def decode(node: yaml.Node, kind: type[_T], path: str, problems: Problems) -> _T | None:
    """Check `node` against `kind` and make the value; None, with at least one problem, where that can not be."""
    before = len(problems)
    try:
        raw = plain(node)
    except ValueError:
        return None  # told where the file was read
    try:
        _check(node, inspect.type_info(kind), path, problems)
        if len(problems) > before:
            return None
        value: _T = convert(raw, kind)
    except msgspec.ValidationError as exc:
        text, _, where = str(exc).partition(" - at `$")
        problems.add(node, path + where.rstrip("`"), text[:1].lower() + text[1:])
    except Exception as exc:  # noqa: BLE001 - a plugin's own type may raise anything, and the other mistakes must show
        problems.add(node, path, f"can not be read as `{kind.__name__}` ({describe(exc)}); ask the plugin's author")
    else:
        return value
    return None


def closest(word: str, known: Iterable[str]) -> str:
    """Give a hint: the known word that looks like `word`, or all of them."""
    names = sorted(known)
    match = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if match:
        return f"did you mean `{match[0]}`?"
    return "known: " + ", ".join(f"`{name}`" for name in names) if names else "there are none"


def _check(node: yaml.Node, kind: inspect.Type, path: str, problems: Problems) -> None:
    match kind:
        case inspect.Metadata():
            _check(node, kind.type, path, problems)
        case inspect.UnionType():
            _check_union(node, kind, path, problems)
        case inspect.StructType(array_like=False):
            _check_struct(node, kind, path, problems)
        case inspect.DictType():
            if not isinstance(node, yaml.MappingNode):
                _wrong(node, kind, path, problems)
            for name, key, value in pairs(node):
                _check(key, kind.key_type, join(path, name), problems)
                _check(value, kind.value_type, join(path, name), problems)
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            _check_list(node, kind, path, problems)
        case _ if _expected(kind) and (hint := _mismatch(node, kind)) is not None:
            _wrong(node, kind, path, problems, hint)


def _check_struct(node: yaml.Node, kind: inspect.StructType, path: str, problems: Problems) -> None:
    fields = {field.encode_name: field for field in kind.fields}
    if not isinstance(node, yaml.MappingNode):
        _wrong(node, kind, path, problems, _as_stage(node, kind))
        return
    for name, key, value in pairs(node):
        if name in fields:
            _check(value, fields[name].type, join(path, name), problems)
        elif name != kind.tag_field:
            problems.add(key, join(path, name), f"unknown key; {closest(name, fields)}")
    for name, field in fields.items():
        if field.required and child(node, name) is None:
            problems.add(node, join(path, name), f"missing; expected {_expected(field.type) or 'a value'}")


def _check_list(node: yaml.Node, kind: Any, path: str, problems: Problems) -> None:
    if not isinstance(node, yaml.SequenceNode):
        _wrong(node, kind, path, problems, "begin each entry with `- `" if not is_null(node) else "")
        return
    if kind.min_length is not None and len(node.value) < kind.min_length:
        problems.add(
            node, path, f"expected {kind.min_length} or more entries, got {len(node.value)}; write what is missing"
        )
    if kind.max_length is not None and len(node.value) > kind.max_length:
        problems.add(node, path, f"expected at most {kind.max_length} entries, got {len(node.value)}")
    for place, item in enumerate(items(node)):
        _check(item, kind.item_type, f"{path}[{place}]", problems)


def _check_union(node: yaml.Node, kind: inspect.UnionType, path: str, problems: Problems) -> None:
    """Check against the types of the union that have the node's shape; where several have it, one must fit."""
    fitting: list[inspect.Type]
    if isinstance(node, yaml.MappingNode):
        fitting = [t for t in kind.types if isinstance(t, (*_MAPPINGS, inspect.AnyType))]
    elif isinstance(node, yaml.SequenceNode):
        fitting = [t for t in kind.types if isinstance(t, (*_LISTS, inspect.TupleType, inspect.AnyType))]
    else:
        fitting = [t for t in kind.types if not isinstance(t, (*_MAPPINGS, *_LISTS, inspect.TupleType))]
    real = [t for t in fitting if not isinstance(t, inspect.NoneType)] if not is_null(node) else fitting
    if len(real) == 1:
        _check(node, real[0], path, problems)
        return
    for candidate in real:
        trial = Problems(problems.file)
        _check(node, candidate, path, trial)
        if not len(trial):
            return
    _wrong(node, kind, path, problems, next(filter(None, (_as_stage(node, t) for t in kind.types)), ""))


def _as_stage(node: yaml.Node, kind: inspect.Type) -> str:
    """Give a hint where a stage's bare name stands in place of its mapping."""
    takes = isinstance(kind, inspect.StructType) and any(field.encode_name == "stage" for field in kind.fields)
    return f"write `{{stage: {node.value}}}`" if takes and isinstance(node, yaml.ScalarNode) and node.value else ""


def _wrong(node: yaml.Node, kind: inspect.Type, path: str, problems: Problems, hint: str = "") -> None:
    problems.add(node, path, f"expected {_expected(kind)}, got {_got(node, path)}" + (f"; {hint}" if hint else ""))


def _got(node: yaml.Node, path: str) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if is_null(node):
        return "nothing"
    if _SECRET.search(path.rpartition(".")[2]):
        return "another value (not shown, it may be secret)"
    text = str(node.value)
    text = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return f'`"{text}"`' if isinstance(node, yaml.ScalarNode) and node.style in ('"', "'") else f"`{text}`"


def _mismatch(node: yaml.Node, kind: inspect.Type) -> str | None:
    """Tell a scalar that does not fit `kind` by a hint, which may be empty; None where it fits."""
    try:
        value = plain(node)
    except ValueError:
        return None  # told already, where the file was read
    match kind:
        case inspect.BoolType():
            fits, hint = type(value) is bool, ""
        case inspect.IntType() | inspect.FloatType():
            return _number_mismatch(value, kind)
        case inspect.StrType():
            fits = type(value) is str and _text_fits(value, kind)
            hint = "put it in quotes" if type(value) in (int, float, bool) else ""
        case inspect.NoneType():
            fits, hint = value is None, ""
        case inspect.LiteralType():
            fits = any(type(value) is type(known) and value == known for known in kind.values)
            near = difflib.get_close_matches(str(value), map(str, kind.values), n=1)
            hint = f"did you mean `{near[0]}`?" if near else ""
        case inspect.EnumType():
            fits, hint = value in [member.value for member in kind.cls], ""
        case _ if isinstance(kind, inspect.CustomType) and kind.cls is Duration:
            fits, hint = _is_duration(value), ""
            if not fits and type(value) in (int, float):
                hint = f"write `{value}s` if seconds are meant"
        case _:
            return None
    return None if fits else hint


def _number_mismatch(value: object, kind: inspect.IntType | inspect.FloatType) -> str | None:
    if type(value) is str:
        if re.fullmatch(r"[-+]?[0-9.]+", value):
            return "remove the quotes"
        percent = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%", value)
        return f"write `{float(percent[1]) / 100:g}`" if percent and isinstance(kind, inspect.FloatType) else ""
    number = type(value) is int or (type(value) is float and isinstance(kind, inspect.FloatType))
    if not number or not isinstance(value, int | float) or not math.isfinite(value):
        return ""
    below = (kind.ge is not None and value < kind.ge) or (kind.gt is not None and value <= kind.gt)
    above = (kind.le is not None and value > kind.le) or (kind.lt is not None and value >= kind.lt)
    return "" if below or above else None


def _text_fits(value: str, kind: inspect.StrType) -> bool:
    return (
        (kind.min_length is None or len(value) >= kind.min_length)
        and (kind.max_length is None or len(value) <= kind.max_length)
        and (kind.pattern is None or re.search(kind.pattern, value) is not None)
    )


def _is_duration(value: object) -> bool:
    try:
        Duration.parse(value)
    except ValueError:
        return False
    return True


def _expected(kind: inspect.Type) -> str:
    """Tell a type in words; empty where only msgspec can judge it."""
    match kind:
        case inspect.Metadata():
            return _expected(kind.type)
        case inspect.UnionType():
            return " or ".join(word for t in kind.types if (word := _expected(t)))
        case inspect.StructType() | inspect.DictType():
            return "a mapping"
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            return "a list"
        case inspect.BoolType():
            return "`true` or `false`"
        case inspect.NoneType():
            return "nothing"
        case inspect.IntType():
            return "a whole number" + _range(kind)
        case inspect.FloatType():
            return "a number" + _range(kind)
        case inspect.StrType(pattern=pattern):
            if pattern == _NAME:
                return "a name in lowercase letters, digits and hyphens"
            return f"text like `{pattern}`" if pattern else "text that is not empty" if kind.min_length else "text"
        case inspect.LiteralType():
            return " or ".join(f"`{value}`" for value in kind.values)
        case inspect.EnumType():
            return " or ".join(f"`{member.value}`" for member in kind.cls)
        case _ if isinstance(kind, inspect.CustomType) and kind.cls is Duration:
            return "a duration above zero with its unit, such as `250ms`, `2s` or `30d`"
        case _:
            return ""


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" in {kind.ge:g}..{kind.le:g}"
    words = (("above", kind.gt), ("at least", kind.ge), ("below", kind.lt), ("at most", kind.le))
    told = " and ".join(f"{word} {limit:g}" for word, limit in words if limit is not None)
    return f", {told}" if told else ""
