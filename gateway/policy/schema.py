"""The JSON Schema of a policy, generated from its types, for editors."""

from __future__ import annotations

import inspect as doc
from typing import Any

import msgspec
from msgspec import inspect

from gateway.policy.model import DURATION_PATTERN, Duration, Policy


def schema() -> dict[str, Any]:
    """Give the JSON Schema (2020-12) of a policy file. It covers one file's types, not which stages are installed."""
    definitions: dict[str, Any] = {}
    root = _schema(inspect.type_info(Policy), definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Policy of the Med-VLM Safety Gateway",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _schema(kind: inspect.Type, definitions: dict[str, Any]) -> dict[str, Any]:
    match kind:
        case inspect.Metadata():
            return _schema(kind.type, definitions) | (kind.extra_json_schema or {})
        case inspect.StructType():
            name = kind.cls.__name__
            if name not in definitions:
                definitions[name] = {}
                definitions[name] = _object(kind, definitions)
            return {"$ref": f"#/$defs/{name}"}
        case inspect.VarTupleType():
            return _some(type="array", items=_schema(kind.item_type, definitions), minItems=kind.min_length)
        case inspect.TupleType():
            each = [_schema(item, definitions) for item in kind.item_types]
            return {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
        case inspect.DictType(value_type=inspect.AnyType()):
            return {"type": "object"}
        case inspect.DictType():
            names, values = _schema(kind.key_type, definitions), _schema(kind.value_type, definitions)
            return {"type": "object", "propertyNames": names, "additionalProperties": values}
        case inspect.UnionType():
            return {"anyOf": [_schema(each, definitions) for each in kind.types]}
        case inspect.LiteralType():
            return {"enum": list(kind.values)}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.NoneType():
            return {"type": "null"}
        case inspect.IntType():
            return _some(type="integer", minimum=kind.ge, maximum=kind.le, exclusiveMinimum=kind.gt)
        case inspect.FloatType():
            return _some(type="number", minimum=kind.ge, maximum=kind.le, exclusiveMinimum=kind.gt)
        case inspect.StrType():
            return _some(type="string", pattern=kind.pattern, minLength=kind.min_length, maxLength=kind.max_length)
        case _ if isinstance(kind, inspect.CustomType) and kind.cls is Duration:
            return {"type": "string", "pattern": DURATION_PATTERN, "examples": ["250ms", "2s", "30d"]}
        case _:
            raise NotImplementedError(kind)  # a new type in the model needs its line here; a test loads the schema


def _object(kind: inspect.StructType, definitions: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in kind.fields:
        properties[field.encode_name] = _schema(field.type, definitions)
        if field.default is not msgspec.NODEFAULT:
            default = msgspec.to_builtins(field.default, enc_hook=_written)
            properties[field.encode_name] = properties[field.encode_name] | {"default": default}
    return {
        "type": "object",
        "description": doc.getdoc(kind.cls),
        "properties": properties,
        "required": [field.encode_name for field in kind.fields if field.required],
        "additionalProperties": False,
    }


def _written(value: object) -> str:
    """Write a default as a file would say it."""
    if isinstance(value, Duration):
        return f"{value.seconds:g}s"
    raise NotImplementedError(type(value))


def _some(**entries: Any) -> dict[str, Any]:
    return {name: value for name, value in entries.items() if value is not None}
