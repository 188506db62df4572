"""Exports of a real log: what is in them, that they are recorded first, and that they appear whole or not at all."""

import asyncio
import csv
import errno
import hashlib
import io
import json
import os
import stat
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fhir.validate import Validator
from store.kit import SECRET, outcomes

from gateway.cli import main
from gateway.errors import InvalidRequest, LogDamaged, NotPermitted, Unavailable
from gateway.records import AccessV1, Caller, merkle, parse
from gateway.store import Store, export_place
from gateway.store.exports import wanted
from gateway.store.filters import parse_filter
from gateway.store.signer import FileKey

OFFICER = Caller(key="o1", department="*", roles=("officer",), person="Dr. Ada", via="oidc")
ALL_FORMATS = ("ndjson", "csv", "parquet", "fhir", "fhir-r5", "dicom")
FULL = Path("/dev/full")
VALIDATORS = {"auditevents.ndjson": Validator("R4"), "auditevents-r5.ndjson": Validator("R5")}


def asked(*fields, formats=("ndjson",), redaction="full", why="audit 12"):
    return wanted(parse_filter(fields), formats, redaction, why)


@pytest.fixture
async def lite(sqlite_url):
    """A store on SQLite alone: for what is the same on every database."""
    opened = await Store.open(sqlite_url, secret=SECRET)
    yield opened
    await opened.close()


async def fill(store, number=3):
    for i in range(number):
        await store.decisions.append(outcomes.refused() if i % 2 else outcomes.released(image=b"\x89PNG"))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def accesses(store):
    rows = await store.decisions.recent(100, kind="access.v1")
    return [row.record for row in rows if isinstance(row.record, AccessV1)]


async def test_an_export_holds_the_exact_bytes_and_proofs_that_lead_to_the_signed_root(store, tmp_path):
    await fill(store, 5)
    made = await store.exports.make(tmp_path / "out", asked(), OFFICER, "test")
    assert made.rows == 5
    out = made.path
    bodies = (out / "records.ndjson").read_bytes().splitlines()
    proofs = lines(out / "proofs.ndjson")
    manifest = json.loads((out / "manifest.json").read_bytes())
    head = await store.tree.checkpoint()
    assert manifest["checkpoint"] == head.note
    assert manifest["count"] == len(bodies) == len(proofs) == 5
    assert [proof["position"] for proof in proofs] == sorted(proof["position"] for proof in proofs)
    for body, proof in zip(bodies, proofs, strict=True):
        stored = await store.decisions.get(proof["id"])
        assert body == stored.bytes
        leaf = hashlib.sha256(b"\x00" + body).digest()
        assert leaf.hex() == proof["leaf"]
        path = tuple(map(bytes.fromhex, proof["path"]))
        assert merkle.verify_inclusion(leaf, proof["position"], head.size, path, head.root)
    for file in manifest["files"]:
        assert hashlib.sha256((out / file["name"]).read_bytes()).hexdigest() == file["sha256"]
    digest = hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest()
    assert (out / "manifest.note").read_text().startswith(f"medvlm-gateway export\n{digest}\n\n")


async def test_every_format_has_every_record_and_the_events_validate(store, tmp_path):
    await fill(store, 4)
    await store.exports.make(tmp_path / "first", asked(), OFFICER, "test")
    made = await store.exports.make(tmp_path / "out", asked(("kind", "*"), formats=ALL_FORMATS), OFFICER, "test")
    out = made.path
    ids = [parse(line).id for line in (out / "records.ndjson").read_bytes().splitlines()]
    assert len(ids) == made.rows >= 5
    assert any(one.startswith("acc_") for one in ids)
    with (out / "decisions.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ids
    table = pq.read_table(out / "decisions.parquet")
    assert table.column("id").to_pylist() == ids
    assert str(table.schema.field("at").type) == "timestamp[us, tz=UTC]"
    assert table.column("at").to_pylist()[0] == (await store.decisions.get(ids[0])).record.at
    for name, validator in VALIDATORS.items():
        events = lines(out / name)
        assert [event["entity"][0]["what"]["identifier"]["value"] for event in events] == ids
        assert [problem for event in events for problem in validator.problems(event)] == []
    assert len((out / "auditmessages.log").read_text().splitlines()) == made.rows


async def test_a_filter_narrows_and_what_came_later_is_not_in_it(store, tmp_path):
    await fill(store, 4)
    what = asked(("outcome", "refused"))
    made = await store.exports.make(tmp_path / "out", what, OFFICER, "test")
    records = [parse(line) for line in (made.path / "records.ndjson").read_bytes().splitlines()]
    assert [record.outcome for record in records] == ["refused", "refused"]
    everything = await store.exports.make(tmp_path / "all", asked(("kind", "*")), OFFICER, "test")
    bodies = (everything.path / "records.ndjson").read_text()
    assert made.access in bodies
    assert everything.access not in bodies


async def test_it_is_recorded_before_anything_is_given(store, tmp_path):
    await fill(store, 3)
    made = await store.exports.make(tmp_path / "out", asked(("outcome", "refused")), OFFICER, "GET it")
    [access] = await accesses(store)
    assert access.id == made.access
    assert (access.action, access.rows, access.why, access.endpoint) == ("export", 1, "audit 12", "GET it")
    assert access.filter == "kind=decision.v1&outcome=refused"
    assert access.caller.person == "Dr. Ada"
    assert len(access.decisions) == 1

    async def fails(event):
        raise Unavailable("the log can not be written")

    store.exports._decisions.append_event = fails
    with pytest.raises(Unavailable):
        await store.exports.make(tmp_path / "second", asked(), OFFICER, "test")
    assert sorted(path.name for path in tmp_path.iterdir() if "out" not in path.name and "log." not in path.name) == []


async def test_who_may_and_what_of(store, tmp_path):
    await fill(store, 3)
    for roles in (("caller",), ("operator",), ("admin",), ()):
        caller = Caller(key="k", department="radiology", roles=roles)
        with pytest.raises(NotPermitted):
            await store.exports.make(tmp_path / "no", asked(), caller, "test")
    elsewhere = Caller(key="k", department="pathology", roles=("auditor",))
    made = await store.exports.make(tmp_path / "none", asked(("kind", "decision.v1")), elsewhere, "test")
    assert made.rows == 0
    asks_for_it = asked(("department", "radiology"))
    made = await store.exports.make(tmp_path / "none-too", asks_for_it, elsewhere, "test")
    assert made.rows == 0
    own = Caller(key="k", department="radiology", roles=("auditor",))
    assert (await store.exports.make(tmp_path / "own", asked(), own, "test")).rows == 3


async def test_pseudonymous_has_no_name_no_reason_and_still_its_proofs(store, tmp_path):
    named = Caller(
        key="k77", department="radiology", roles=("officer",), person="Dr. Ada Lovelace", application="pacs-1"
    )
    await fill(store, 2)
    await store.exports.make(tmp_path / "first", asked(why="because of Bob"), named, "test")
    what = asked(("kind", "*"), formats=ALL_FORMATS, redaction="pseudonymous")
    made = await store.exports.make(tmp_path / "out", what, OFFICER, "test")
    assert not (made.path / "records.ndjson").exists()
    for path in made.path.iterdir():
        if path.suffix != ".parquet" and path.name not in ("manifest.json", "verify_export.py"):
            text = path.read_text()
            for word in ("Lovelace", "k77", "pacs-1", "because of Bob"):
                assert word not in text, path
    table = pq.read_table(made.path / "decisions.parquet").to_pylist()
    assert not any("Lovelace" in str(row) or "Bob" in str(row) for row in table)
    [look] = [row for row in table if row["kind"] == "access.v1"]
    assert look["person"].startswith("psn-")
    assert look["why"] == "withheld"
    head = await store.tree.checkpoint(size=made.rows + 1)
    for renamed, proof in zip(
        lines(made.path / "pseudonymous.ndjson"), lines(made.path / "proofs.ndjson"), strict=True
    ):
        stored = await store.decisions.get(proof["id"])
        assert renamed["leaf"] == proof["leaf"] == stored.leaf
        path = tuple(map(bytes.fromhex, proof["path"]))
        assert merkle.verify_inclusion(bytes.fromhex(stored.leaf), proof["position"], head.size, path, head.root)
    for name, validator in VALIDATORS.items():
        for event in lines(made.path / name):
            assert validator.problems(event) == []
            assert event["meta"]["security"][0]["code"] == "PSEUDED"
    again = await store.exports.make(tmp_path / "again", what, OFFICER, "test")
    assert [row["record"]["caller"]["key"] for row in lines(again.path / "pseudonymous.ndjson")][: made.rows] == [
        row["record"]["caller"]["key"] for row in lines(made.path / "pseudonymous.ndjson")
    ]


async def test_a_zip_has_the_same_files_and_nobody_else_may_read(lite, tmp_path):
    await fill(lite, 2)
    folder = await lite.exports.make(tmp_path / "out", asked(formats=("csv",)), OFFICER, "test")
    packed = await lite.exports.make(tmp_path / "out.zip", asked(formats=("csv",)), OFFICER, "test")
    with zipfile.ZipFile(packed.path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(path.name for path in folder.path.iterdir())
        assert archive.read("records.ndjson") == (folder.path / "records.ndjson").read_bytes()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()} == {0o600}
    assert stat.S_IMODE(packed.path.stat().st_mode) == 0o600


async def test_nothing_is_overwritten_and_the_folder_must_be_there(lite, tmp_path):
    await fill(lite, 1)
    (tmp_path / "there").mkdir()
    (tmp_path / "file.zip").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "file.zip", "link", "no/such/out"):
        with pytest.raises(InvalidRequest, match="folder"):
            await lite.exports.make(tmp_path / name, asked(), OFFICER, "test")
    assert (tmp_path / "file.zip").read_text() == "mine"
    assert await accesses(lite) == []


@pytest.mark.parametrize("after", [0, 1, 4, 10])
async def test_a_full_disk_leaves_nothing(lite, tmp_path, monkeypatch, after):
    """The disk is full at the first file that is brought to it, at a later one, or at the zip file."""
    await fill(lite, 2)
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    place = tmp_path / "exports"
    place.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(export_place.os, "fsync", full)
        for name in ("out", "out.zip") if after < 10 else ("out.zip",):
            calls.clear()
            with pytest.raises(Unavailable, match="disk is full"):
                await lite.exports.make(place / name, asked(formats=ALL_FORMATS), OFFICER, "test")
    assert list(place.iterdir()) == []


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
async def test_a_real_full_device_is_told(lite, tmp_path, monkeypatch):
    await fill(lite, 2)
    monkeypatch.setattr("gateway.store.export_files.create", lambda path: FULL.open("wb"))
    place = tmp_path / "exports"
    place.mkdir()
    with pytest.raises(Unavailable, match="disk is full"):
        await lite.exports.make(place / "out", asked(), OFFICER, "test")
    assert list(place.iterdir()) == []


async def test_more_than_may_be_taken_is_refused_before_it_is_recorded(lite, tmp_path):
    await fill(lite, 3)
    with pytest.raises(InvalidRequest, match="more than 2 records"):
        await lite.exports.make(tmp_path / "out", asked(), OFFICER, "test", most=2)
    assert await accesses(lite) == []
    assert not (tmp_path / "out").exists()


async def test_many_chunks(store, tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.store.exports._CHUNK", 7)
    monkeypatch.setattr("gateway.store.export_files._ROW_GROUP", 10)
    await fill(store, 23)
    told = []
    made = await store.exports.make(
        tmp_path / "out",
        asked(formats=("parquet",)),
        OFFICER,
        "test",
        progress=lambda done, of: told.append((done, of)),
    )
    assert told == [(7, 23), (14, 23), (21, 23), (23, 23)]
    parquet = pq.ParquetFile(made.path / "decisions.parquet")
    assert (parquet.metadata.num_rows, parquet.num_row_groups) == (23, 2)


async def test_a_record_that_is_gone_is_no_export(lite, tmp_path, monkeypatch):
    await fill(lite, 3)
    count = lite.search.count

    async def one_more(filter_):
        return await count(filter_) + 1

    monkeypatch.setattr(lite.search, "count", one_more)
    with pytest.raises(LogDamaged, match="4 records were counted and 3 were found"):
        await lite.exports.make(tmp_path / "out", asked(), OFFICER, "test")
    assert not (tmp_path / "out").exists()


def test_what_is_asked_for_is_checked():
    for change, message in (
        ({"formats": ("pdf",)}, "`formats`: expected some of"),
        ({"redaction": "none"}, "`redaction`: expected one of"),
        ({"why": " "}, "`why`: say why"),
        ({"why": "x" * 1001}, "`why`: say why"),
        ({"why": "a\nb"}, "`why`: say why"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            asked(**change)
    assert asked(formats=("csv", "csv", "ndjson")).formats == ("ndjson", "csv")
    assert asked(formats=()).formats == ("ndjson",)


async def test_no_cell_of_a_table_is_a_formula(lite, tmp_path):
    evil = '=HYPERLINK("http://evil")'
    named = Caller(key="k1", department="radiology", roles=("officer",), person=evil, application="@SUM(A1)")
    await lite.exports.make(tmp_path / "first", asked(why="-2+3"), named, "+cmd")
    made = await lite.exports.make(tmp_path / "out", asked(("kind", "*"), formats=("csv",)), OFFICER, "test")
    text = (made.path / "decisions.csv").read_text(encoding="utf-8-sig")
    [row] = list(csv.DictReader(io.StringIO(text)))
    assert row["person"] == "'" + evil
    assert row["application"] == "'@SUM(A1)"
    assert row["endpoint"] == "'+cmd"
    assert row["why"] == "'-2+3"
    for cell in row.values():
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


async def test_what_was_put_there_meanwhile_is_not_replaced(lite, tmp_path):
    await fill(lite, 1)
    for name in ("out", "out.zip"):

        def appears(done, of, name=name):
            (tmp_path / name).write_text("mine")

        with pytest.raises(Unavailable, match="something else was put there"):
            await lite.exports.make(tmp_path / name, asked(), OFFICER, "test", progress=appears)
        assert (tmp_path / name).read_text() == "mine"


def test_the_command_line(tmp_path):
    async def filled():
        key = FileKey(tmp_path / "data" / "log.key")
        opened = await Store.open(f"sqlite:///{tmp_path}/data/gateway.sqlite3", secret=SECRET, log_key=key)
        await fill(opened, 3)
        await opened.close()

    (tmp_path / "data").mkdir()
    asyncio.run(filled())
    out = tmp_path / "out"
    place = {"GATEWAY_DATA_DIR": str(tmp_path / "data"), "GATEWAY_SECRET": SECRET.hex()}

    def run(*words):
        return CliRunner().invoke(main, ["log", "export", *words], env=place)

    wrong = run("--out", str(out))
    assert wrong.exit_code == 2
    assert "--why" in wrong.output
    wrong = run("--out", str(out), "--why", "audit", "outcome")
    assert (wrong.exit_code, "expected `field=value`" in wrong.output) == (2, True)
    wrong = run("--out", str(out), "--why", "audit", "colour=red")
    assert (wrong.exit_code, "`colour` is no field" in wrong.output) == (2, True)
    assert not out.exists()
    right = run("--out", str(out), "--why", "audit", "--format", "csv, fhir", "--json", "outcome=refused")
    assert right.exit_code == 0, right.output
    told = json.loads(right.stdout)
    assert (told["path"], told["records"]) == (str(out), 1)
    assert {path.name for path in out.iterdir()} >= {"records.ndjson", "decisions.csv", "auditevents.ndjson"}
    again = run("--out", str(out), "--why", "audit")
    assert (again.exit_code, "is there already" in again.output) == (2, True)
