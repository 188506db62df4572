"""A strict validator of FHIR resources in JSON, by HL7's own definitions (`r4.json`, `r5.json`, see `reduce.py`).

Checked: unknown elements, cardinality, lists where there must be lists, types and the regular expressions of
primitives, choice types, empty values, bindings, targets of references, and invariants. What the definitions kept here
do not tell (a type or a required value set that is not there, an invariant that is not known) is a problem too.
"""

import base64
import binascii
import datetime as dt
import functools
import json
import re
from pathlib import Path

_FHIRPATH = "http://hl7.org/fhirpath/System."


def _many(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def _sev1(value, _):
    return not ("name" in value and "query" in value)


def _ext1(value, _):
    return ("extension" in value) != any(name.startswith("value") for name in value)


def _per1(value, _):
    return not ("start" in value and "end" in value) or value["start"] <= value["end"]


def _ref1(value, root):
    reference = value.get("reference", "")
    return not reference.startswith("#") or reference[1:] in {one.get("id") for one in _many(root.get("contained"))}


def _contained(test):
    return lambda value, _: all(test(one) for one in _many(value.get("contained")))


def _entries(test):
    return lambda value, _: all(test(one, value) for one in _many(value.get("entry")))


def _distinct(value, _):
    named = [
        (one["fullUrl"], one.get("resource", {}).get("meta", {}).get("versionId"))
        for one in _many(value.get("entry"))
        if "fullUrl" in one
    ]
    return value.get("type") == "history" or len(named) == len(set(named))


_REQUESTS = ("batch", "transaction", "history")
_RESPONSES = ("batch-response", "transaction-response", "history")
_COLLECTED = ("document", "message", "searchset", "collection")

INVARIANTS = {
    "sev-1": _sev1,
    "ele-1": lambda value, _: not isinstance(value, dict) or bool(set(value) - {"id"}),
    "ext-1": _ext1,
    "per-1": _per1,
    "ref-1": _ref1,
    "ref-2": lambda value, _: bool({"reference", "identifier", "display", "extension"} & set(value)),
    "cod-1": lambda value, _: "code" in value or "display" not in value,
    "ident-1": lambda value, _: "value" in value,
    "qty-3": lambda value, _: "code" not in value or "system" in value,
    "dom-2": _contained(lambda one: "contained" not in one),
    "dom-4": _contained(lambda one: not {"versionId", "lastUpdated"} & set(one.get("meta", {}))),
    "dom-5": _contained(lambda one: "security" not in one.get("meta", {})),
    "bdl-1": lambda value, _: "total" not in value or value.get("type") in ("searchset", "history"),
    "bdl-2": _entries(lambda one, all_: "search" not in one or all_.get("type") == "searchset"),
    "bdl-3": _entries(lambda one, all_: ("request" in one) == (all_.get("type") in _REQUESTS)),
    "bdl-3a": _entries(
        lambda one, all_: (
            all_.get("type") not in _COLLECTED or ("resource" in one and not {"request", "response"} & set(one))
        )
    ),
    "bdl-4": _entries(lambda one, all_: ("response" in one) == (all_.get("type") in _RESPONSES)),
    "bdl-5": lambda value, _: bool({"resource", "request", "response"} & set(value)),
    "bdl-7": _distinct,
    "bdl-8": lambda value, _: "/_history/" not in value.get("fullUrl", ""),
    "bdl-15": _entries(lambda one, all_: all_.get("type", "").startswith(("transaction", "batch")) or "fullUrl" in one),
}
"""Invariants in Python, by their keys: each is told the value and the resource, and says whether it holds."""

ADVICE = {"dom-6": "good practice only: a narrative", "dom-3": "no resource here contains another"}
"""Invariants that are not evaluated, and why."""

_OF_OTHER_BUNDLES = {"bdl-3b", "bdl-3c", "bdl-3d", "bdl-9", "bdl-10", "bdl-11", "bdl-12", "bdl-13", "bdl-14"}
_OF_OTHER_BUNDLES |= {"bdl-16", "bdl-17", "bdl-18"}


class Validator:
    """Validates by one release's definitions: `R4` or `R5`, in `folder`; `invariants` are known beside those here."""

    def __init__(self, release, folder=Path(__file__).parent, invariants=None):
        body = json.loads((folder / f"{release.lower()}.json").read_text())
        self._known = INVARIANTS | (invariants or {})
        self.version = body["version"]
        self._structures = body["structures"]
        self._sets = body["valuesets"]
        self._elements = {one["path"]: one for structure in self._structures.values() for one in structure["elements"]}
        self._children = {}
        for path in self._elements:
            parent, _, name = path.rpartition(".")
            self._children.setdefault(parent, {})[name] = path

    def problems(self, resource):
        """Give every problem of `resource`, one line each, with its path."""
        return list(self._resource(resource, "", None))

    def _resource(self, value, where, root):
        if not isinstance(value, dict):
            yield f"{where or 'resource'}: not an object"
            return
        kind = value.get("resourceType")
        if not isinstance(kind, str) or self._structures.get(kind, {}).get("kind") != "resource" or kind == "Resource":
            yield f"{where or 'resource'}: `{kind}` is no resource that is defined here"
            return
        body = {name: inner for name, inner in value.items() if name != "resourceType"}
        yield from self._object(body, kind, where or kind, value if root is None else root)

    def _object(self, value, path, where, root):
        """Check an object whose elements are the children of `path`."""
        if not isinstance(value, dict):
            yield f"{where}: not an object"
            return
        if not value:
            yield f"{where}: empty object"
            return
        left = dict(value)
        for name, child in self._children[path].items():
            element = self._elements[child]
            if name.endswith("[x]"):
                yield from self._choice(left, name[:-3], element, where, root)
                continue
            given = left.pop(name, None) if name in left else _ABSENT
            beside = left.pop("_" + name, _ABSENT)
            yield from self._element(given, beside, element, f"{where}.{name}", root)
        yield from (f"{where}.{name}: unknown element" for name in left)
        yield from self._invariants(value, self._elements[path], where, root)

    def _choice(self, left, stem, element, where, root):
        names = {stem + one["code"][0].upper() + one["code"][1:]: one for one in element["type"]}
        given = [name for name in names if name in left or "_" + name in left]
        if len(given) > 1:
            yield f"{where}.{stem}[x]: more than one of its types"
        if not given and element["min"]:
            yield f"{where}.{stem}[x]: missing"
        for name in given:
            only = element | {"type": [names[name]], "min": 0}
            value, beside = left.pop(name, _ABSENT), left.pop("_" + name, _ABSENT)
            yield from self._element(value, beside, only, f"{where}.{name}", root)

    def _element(self, given, beside, element, where, root):
        if given is _ABSENT and beside is _ABSENT:
            if element["min"]:
                yield f"{where}: missing"
            return
        if element["max"] == "0":
            yield f"{where}: not allowed"
            return
        if beside is not _ABSENT:
            yield from self._beside(beside, element, where, root)
        if given is _ABSENT:
            return
        if element["max"] == "1":
            if isinstance(given, list):
                yield f"{where}: a list, where one value is expected"
                return
            values = [given]
        else:
            if not isinstance(given, list):
                yield f"{where}: one value, where a list is expected"
                return
            if not given:
                yield f"{where}: empty list"
                return
            if len(given) < element["min"] or (element["max"] != "*" and len(given) > int(element["max"])):
                yield f"{where}: {len(given)} values, expected {element['min']}..{element['max']}"
            values = given
        for number, value in enumerate(values):
            at = where if element["max"] == "1" else f"{where}[{number}]"
            yield from self._value(value, element, at, root)

    def _beside(self, value, element, where, root):
        """Check what stands beside a primitive: an id or extensions."""
        kind = element.get("type", [{"code": ""}])[0]["code"]
        if not (kind.startswith(_FHIRPATH) or self._structures.get(kind, {}).get("kind") == "primitive-type"):
            yield f"{where}: `_` before the name of what is no primitive"
            return
        for one in _many(value):
            if not isinstance(one, dict) or not one or set(one) - {"id", "extension"}:
                yield f"{where}: `_` holds more than id and extension"
            else:
                for extension in _many(one.get("extension")):
                    yield from self._object(extension, "Extension", f"{where}.extension", root)

    def _value(self, value, element, where, root):
        if value is None:
            yield f"{where}: null"
            return
        if "same" in element:
            yield from self._object(value, element["same"].removeprefix("#"), where, root)
            return
        kind = element["type"][0]
        code = kind["code"]
        if code.startswith(_FHIRPATH):
            code = "id" if element["path"].count(".") == 1 and self._is_resource(element["path"]) else kind["fhir"]
        if code == "Resource":
            yield from self._resource(value, where, root)
        elif element["path"] in self._children:
            yield from self._object(value, element["path"], where, root)
        elif code not in self._structures:
            yield f"{where}: the type `{code}` is not defined here"
        elif self._structures[code]["kind"] == "primitive-type":
            yield from self._primitive(value, code, where)
        else:
            yield from self._object(value, code, where, root)
            if code == "Reference" and isinstance(value, dict):
                yield from self._target(value, kind.get("targets", ()), where)
        if "binding" in element:
            yield from self._bound(value, element["binding"], where)
        yield from self._invariants(value, element, where, root)

    def _is_resource(self, path):
        return self._structures[path.split(".")[0]]["kind"] == "resource"

    def _primitive(self, value, code, where):
        if code == "boolean":
            if not isinstance(value, bool):
                yield f"{where}: not a boolean"
            return
        if code in ("integer", "unsignedInt", "positiveInt", "decimal"):
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float if code == "decimal" else int)
                or (code != "decimal" and not re.fullmatch(self._regex(code), str(value)))
            ):
                yield f"{where}: not a number of the type {code}"
            return
        if not isinstance(value, str):
            yield f"{where}: not a string"
            return
        pattern = self._regex(code)
        if not value.strip():
            yield f"{where}: empty string"
        elif pattern is not None and not re.fullmatch(pattern, value):
            yield f"{where}: does not match the regular expression of {code}"
        elif code == "base64Binary":
            try:
                base64.b64decode(value, validate=True)
            except binascii.Error:
                yield f"{where}: not base64"
        elif code == "instant":
            try:
                dt.datetime.fromisoformat(value)
            except ValueError:
                yield f"{where}: no such time"
        elif code in ("string", "markdown") and any(ord(one) < 32 and one not in "\t\r\n" for one in value):
            yield f"{where}: control characters"

    @functools.cache  # noqa: B019 - a validator lives as long as the tests
    def _regex(self, code):
        return self._elements[f"{code}.value"]["type"][0].get("regex")

    def _target(self, value, targets, where):
        kinds = [value["type"]] if "type" in value else []
        match = re.fullmatch(
            r"(?:https?://.*/)?([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/.+)?", value.get("reference", "")
        )
        if match:
            kinds.append(match[1])
        for kind in kinds:
            if (
                kind
                not in self._sets["http://hl7.org/fhir/ValueSet/resource-types"]["http://hl7.org/fhir/resource-types"]
            ):
                yield f"{where}: `{kind}` is no type of resource"
            elif targets and "Resource" not in targets and kind not in targets:
                yield f"{where}: refers to {kind}, expected one of {', '.join(targets)}"

    def _bound(self, value, binding, where):
        strength, url = binding["strength"], binding["valueSet"]
        if strength not in ("required", "extensible"):
            return
        systems = self._sets.get(url)
        if systems is None:
            yield f"{where}: the value set {url} is not here"
            return
        if isinstance(value, str):
            if not any(codes is None or value in codes for codes in systems.values()):
                yield f"{where}: `{value}` is not in {url}"
            return
        if not isinstance(value, dict):
            return
        codings = _many(value.get("coding")) if "coding" in value or "system" not in value else [value]
        inside = []
        for one in codings:
            if not isinstance(one, dict) or one.get("system") not in systems:
                inside.append(False)
                continue
            codes = systems[one["system"]]
            inside.append(codes is None or one.get("code") in codes)
            if not inside[-1]:
                yield f"{where}: `{one.get('code')}` of {one['system']} is not in {url}"
        if strength == "required" and not any(inside):
            yield f"{where}: no code of {url}"

    def _invariants(self, value, element, where, root):
        for key in element.get("invariants", ()):
            test = self._known.get(key)
            if test is None and (key in ADVICE or key in _OF_OTHER_BUNDLES):
                continue
            if test is None:
                yield f"{where}: the invariant {key} is not known here"
            elif (isinstance(value, dict) or key == "ele-1") and not test(value, root):
                yield f"{where}: {key} does not hold"


_ABSENT = object()
