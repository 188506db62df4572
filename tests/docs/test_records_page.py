"""The page and the schema of the records: current, whole, and true of real records."""

import datetime as dt
import importlib.util
import json
import typing

import msgspec
import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from record_strategies import anything
from store.kit import SECRET, outcomes
from support import ROOT

from gateway.records import AccessV1, Caller, Context, Digester, Record, canonical, record_of

_spec = importlib.util.spec_from_file_location("generate_records", ROOT / "docs" / "generate_records.py")
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)

DIGESTER = Digester(SECRET)
OFFICER = Caller(key="k2", department="radiology", roles=("officer",))
VALIDATOR = Draft202012Validator(json.loads(generate.SCHEMA.read_text()))


def test_the_page_and_the_schema_are_current():
    assert generate.PAGE.read_text() == generate.render(), "run `make docs`"
    assert generate.SCHEMA.read_text() == generate.schema(), "run `make docs`"


def test_every_kind_and_every_field_is_on_the_page():
    page = generate.PAGE.read_text()
    for kind in typing.get_args(Record):
        assert f"`type` is `{kind.__struct_config__.tag}`." in page
    for name, kind in generate.structs(Record).items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for field in kind.__struct_fields__:
            row = next(line for line in section.splitlines() if line.startswith(f"| `{field}` |"))
            assert row.split("|")[4].strip() in ("yes", "pseudonym", "no")
            assert len(row.split("|")[5].strip()) > 5


def test_what_holds_a_person_is_said():
    known = generate.meanings()
    for place in (("CallerV1", "person"), ("ContextV1", "on_behalf_of"), ("AccessV1", "why"), ("*", "reason")):
        assert known[place][0] == "yes"
    for place in (("ContextV1", "patient"), ("ContextV1", "study"), ("DecisionV1", "prompt"), ("ImageV1", "digest")):
        assert known[place][0] == "pseudonym"


@pytest.mark.parametrize(
    "line", ["LONELY no", "ScoreV1\nvalue maybe A score.", "ScoreV1\nvalue no One.\nvalue no Two."]
)
def test_a_malformed_line_of_meanings_is_told_with_its_number(line, tmp_path):
    file = tmp_path / "fields.txt"
    file.write_text(line + "\n" if "\n" in line else f"X\n{line}\n")
    with pytest.raises(SystemExit, match=r"fields\.txt:\d: expected"):
        generate.meanings(file)


def test_a_field_without_a_meaning_and_a_meaning_without_a_field_stop_the_page(tmp_path):
    whole = generate.FIELDS.read_text()
    file = tmp_path / "fields.txt"
    file.write_text(whole.replace("purpose no", "purposes no"))
    with pytest.raises(SystemExit, match=r"says nothing of `ContextV1\.purpose`; add it"):
        generate.render(file)
    file.write_text(whole + "HoldScopeV1\nplanet no Which.\n")
    with pytest.raises(SystemExit, match=r"there is no field HoldScopeV1\.planet"):
        generate.render(file)


def errors(body: bytes) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(json.loads(body))]


def samples():
    """Give the bytes of real records: old and new, plain and with all that a caller can say."""
    context = Context(purpose="TREAT", patient="MRN 1", task="report-draft")
    yield (ROOT / "tests" / "first_decision.json").read_bytes()
    for outcome in (outcomes.released(image=b"x"), outcomes.refused(), outcomes.withheld("a", "b")):
        yield canonical(record_of(outcome, DIGESTER))
        yield canonical(record_of(msgspec.structs.replace(outcome, context=context), DIGESTER))
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    yield canonical(AccessV1.of(caller=OFFICER, endpoint="/decisions", decisions=("dec_1",), at=at, until=at))


@pytest.mark.parametrize("body", list(samples()))
def test_real_records_are_valid(body):
    assert errors(body) == []


@settings(max_examples=60, deadline=None)
@given(anything(Record))
def test_every_record_is_valid(record):
    assert errors(canonical(record)) == []


def test_other_objects_are_not_valid():
    good = json.loads(canonical(record_of(outcomes.refused(), DIGESTER)))
    for change in ({"type": "decision.v9"}, {"extra": 1}, {"ms": "long"}, {"clock": "right"}, {"at": None}):
        assert errors(json.dumps({**good, **change}).encode())
    assert errors(json.dumps({name: good[name] for name in good if name != "policy"}).encode())
