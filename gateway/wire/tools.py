"""Tools, the choice among them, and the format of the answer: a model reads them, so each becomes a part to inspect."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.values import Text
from gateway.wire.fields import Body, bad, flag, items, known, members, string, wrong
from gateway.wire.words import kind, quote

MAX_TOOLS = 128
MAX_DEPTH = 32
"""How deeply a schema may be nested."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _check(value: object, param: str) -> None:
    """Refuse what another reader of JSON could not take: deep nesting, and numbers beyond 64 bits."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, int) and not -(2**63) <= item < 2**64:
                bad(param, f"`{param}` holds a number beyond 64 bits; give a smaller one")
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return
        level = below
    bad(param, f"`{param}` is nested more than {MAX_DEPTH} levels deep; make it flatter")


def _json(value: object, id_: str) -> Text:
    """Write checked data as JSON text."""
    _check(value, id_)
    return Text(id=id_, text=msgspec.json.encode(value).decode())


def _name(value: object, where: str) -> str:
    name = string(value, where)
    if not _NAME.fullmatch(name):
        bad(where, f"`{where}` is {quote(name)}; give 1 to 64 letters, digits, `_`, `.` or `-`")
    return name


def read_tools(body: Body) -> tuple[Text | None, Text | None]:
    """Read `tools` and `tool_choice`; both None where no tools are given."""
    value, choice = body.get("tools"), body.get("tool_choice")
    tools = items(value, "tools", MAX_TOOLS, "a list of tools") if value is not None else []
    names: set[str] = set()
    for k, item in enumerate(tools):
        where = f"tools[{k}]"
        tool = members(item, where, "an object with `type` and `function`")
        known(tool, ("type", "function"), where)
        if tool.get("type") != "function":
            wrong(f"{where}.type", tool.get("type"), "`function`, the one type that the gateway takes")
        function = members(tool.get("function"), f"{where}.function")
        known(function, ("name", "description", "parameters", "strict"), f"{where}.function")
        names.add(_name(function.get("name"), f"{where}.function.name"))
        if function.get("description") is not None:
            string(function["description"], f"{where}.function.description")
        if function.get("parameters") is not None:
            members(function["parameters"], f"{where}.function.parameters", "a JSON Schema")
        flag(function, "strict", f"{where}.function.strict")
    if choice is not None and not (choice in ("none", "auto") and not tools):
        _check_choice(choice, names)
    if not tools:
        return None, None
    return _json(tools, "tools"), None if choice is None else _json(choice, "tool_choice")


def _check_choice(choice: object, names: set[str]) -> None:
    if isinstance(choice, str):
        if choice not in ("none", "auto", "required"):
            wrong("tool_choice", choice, "`none`, `auto`, `required`, or an object that names a function")
    else:
        given = members(choice, "tool_choice", "`none`, `auto`, `required`, or an object that names a function")
        known(given, ("type", "function"), "tool_choice")
        if given.get("type") != "function":
            wrong("tool_choice.type", given.get("type"), "`function`")
        function = members(given.get("function"), "tool_choice.function", "an object with `name`")
        known(function, ("name",), "tool_choice.function")
        name = _name(function.get("name"), "tool_choice.function.name")
        if name not in names:
            bad("tool_choice", f"`tool_choice` names {quote(name)}, which is not in `tools`; declare it there")
    if not names:
        bad("tool_choice", "`tool_choice` is given without `tools`; give both or none")


def read_parallel(body: Body, tools: Text | None) -> bool | None:
    """Read whether the model may call several tools at once; None where that is left to it, or there are no `tools`."""
    asked = flag(body, "parallel_tool_calls")
    return asked if tools is not None and body.get("parallel_tool_calls") is not None else None


def read_response_format(body: Body) -> Text | None:
    """Read `response_format`; None for plain text."""
    value = body.get("response_format")
    if value is None:
        return None
    given = members(value, "response_format", "an object with `type`")
    match given.get("type"):
        case "text":
            known(given, ("type",), "response_format")
            return None
        case "json_object":
            known(given, ("type", "value"), "response_format")
            if given.get("value") is not None:  # how Hugging Face's clients send a schema, whatever they were given
                schema = members(given["value"], "response_format.value", "a JSON Schema")
                given = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        case "json_schema":
            known(given, ("type", "json_schema"), "response_format")
            schema = members(
                given.get("json_schema"), "response_format.json_schema", "an object with `name` and `schema`"
            )
            known(schema, ("name", "description", "schema", "strict"), "response_format.json_schema")
            _name(schema.get("name"), "response_format.json_schema.name")
            if schema.get("description") is not None:
                string(schema["description"], "response_format.json_schema.description")
            if schema.get("schema") is not None:
                members(schema["schema"], "response_format.json_schema.schema", "a JSON Schema")
            flag(schema, "strict", "response_format.json_schema.strict")
        case other:
            told = quote(other) if isinstance(other, str) else kind(other)
            bad("response_format.type", f"`response_format.type` is {told}; give one of text, json_object, json_schema")
    return _json(given, "response_format")
