"""An export on a machine without the gateway: the stand-alone script alone says whether it is what the log gave."""

import asyncio
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from store.kit import SECRET, outcomes

from gateway.records import Caller
from gateway.store import Store
from gateway.store.exports import wanted
from gateway.store.filters import parse_filter

OFFICER = Caller(key="o1", department="*", roles=("officer",), via="oidc")
OTHER = bytes(reversed(range(32)))
_RUN = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_path(sys.argv.pop(1), run_name='__main__')"
_NEEDED = ("cryptography", "cffi", "_cffi_backend")


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    """A machine without the gateway: a folder with `cryptography`, and the script, copied out of the repository."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "libraries").mkdir()
    for name in _NEEDED:
        found = importlib.util.find_spec(name)
        if found is not None:
            place = Path(found.origin) if found.submodule_search_locations is None else Path(found.origin).parent
            (folder / "libraries" / place.name).symlink_to(place)
    script = Path(__file__).resolve().parents[2] / "gateway" / "store" / "verify_export.py"
    shutil.copy(script, folder / "verify_export.py")
    return folder


@pytest.fixture
def verify(elsewhere):
    """Verify in a fresh process that can import neither the gateway nor anything else that is installed."""

    def run(*words, script=None):
        command = [sys.executable, "-I", "-S", "-c", _RUN, str(elsewhere / "libraries")]
        command += [str(script or elsewhere / "verify_export.py"), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=elsewhere, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


async def fill(store, number):
    for i in range(number):
        await store.decisions.append(outcomes.refused() if i % 2 else outcomes.released())


def asked(**given):
    given = {"formats": ("csv", "parquet", "fhir", "dicom"), "redaction": "full", "why": "audit"} | given
    return wanted(
        parse_filter(given.pop("fields", [("kind", "*")])), given["formats"], given["redaction"], given["why"]
    )


def test_there_is_no_gateway_where_it_is_verified(elsewhere, verify, tmp_path):
    for name in ("gateway", "msgspec", "sqlalchemy"):
        (tmp_path / "try.py").write_text(f"import {name}\n")
        code, said = verify(script=tmp_path / "try.py")
        assert code == 1
        assert f"No module named '{name}'" in said


@pytest.mark.parametrize("name", ["out", "out.zip"])
@pytest.mark.parametrize("redaction", ["full", "pseudonymous"])
async def test_an_export_verifies(store, tmp_path, verify, name, redaction):
    await fill(store, 9)
    await store.exports.make(tmp_path / "before", asked(fields=[("outcome", "refused")]), OFFICER, "test")
    made = await store.exports.make(tmp_path / name, asked(redaction=redaction), OFFICER, "test")
    await fill(store, 2)
    assert made.rows == 10
    code, said = await asyncio.to_thread(verify, made.path, "--key", store.signer.vkey)
    assert (code, "NO KEY WAS GIVEN" in said) == (0, False), said
    assert "10 records" in said if redaction == "full" else "10 leaf hashes" in said
    assert "first 11" in said
    code, said = await asyncio.to_thread(verify, made.path)
    assert (code, "NO KEY WAS GIVEN" in said) == (0, True), said


async def test_an_empty_export_and_the_copy_of_the_script_in_it(store, tmp_path, verify):
    await fill(store, 2)
    nothing = asked(fields=[("outcome", "withheld")])
    made = await store.exports.make(tmp_path / "out", nothing, OFFICER, "test")
    copy = made.path / "verify_export.py"
    code, said = await asyncio.to_thread(lambda: verify(made.path, "--key", store.signer.vkey, script=copy))
    assert (made.rows, code) == (0, 0), said


# Each tampering, on a copy of one export. `signed` is what somebody could do who holds the log's key.


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")

    async def make():
        store = await Store.open(f"sqlite:///{folder}/log.sqlite3", secret=SECRET)
        other = await Store.open(f"sqlite:///{folder}/other.sqlite3", secret=OTHER, log_name=store.signer.name)
        await fill(store, 9)
        await fill(other, 9)
        await store.exports.make(folder / "out", asked(), OFFICER, "test")
        await other.exports.make(folder / "other", asked(), OFFICER, "test")
        await store.close()
        await other.close()
        return store.signer, other.signer

    own, foreign = asyncio.run(make())
    return folder, own, foreign


def _edit(name, change):
    def tamper(out, _):
        path = out / name
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(change(lines)))

    return tamper


def _flip(lines):
    return [lines[0], lines[1].replace(b'"outcome":"refused"', b'"outcome":"screened"'), *lines[2:]]


def _proof(**change):
    def edit(lines):
        proof = json.loads(lines[3])
        return [*lines[:3], json.dumps(proof | {k: v(proof) for k, v in change.items()}).encode() + b"\n", *lines[4:]]

    return _edit("proofs.ndjson", edit)


def _manifest(**change):
    def tamper(out, _):
        manifest = json.loads((out / "manifest.json").read_bytes())
        manifest |= {name: value(manifest) for name, value in change.items()}
        (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")

    return tamper


def _checkpoint_of(out, other):
    manifest = json.loads((other / "manifest.json").read_bytes())
    return _manifest(checkpoint=lambda _: manifest["checkpoint"])(out, other)


def _bigger_head(manifest):
    text, _, signatures = manifest["checkpoint"].rpartition("\n\n")
    lines = text.split("\n")
    return "\n".join([lines[0], "99", *lines[2:]]) + "\n\n" + signatures


def _replaced(out, other):
    shutil.rmtree(out)
    shutil.copytree(other, out)


ATTACKS = {
    "a byte of a record": (_edit("records.ndjson", _flip), False, "records.ndjson was changed"),
    "a byte of a record, signed": (_edit("records.ndjson", _flip), True, "its bytes do not have its leaf hash"),
    "a dropped record": (_edit("records.ndjson", lambda x: x[:-1]), False, "records.ndjson was changed"),
    "a dropped record, signed": (_edit("records.ndjson", lambda x: x[:-1]), True, "do not have its leaf hash"),
    "a dropped proof, signed": (_edit("proofs.ndjson", lambda x: x[:-1]), True, "more records than proofs"),
    "a record and its proof dropped, signed": (
        lambda out, other: [_edit(name, lambda x: x[:-1])(out, other) for name in ("records.ndjson", "proofs.ndjson")],
        True,
        "counts 9 records, and there are 8",
    ),
    "a doubled record, signed": (
        lambda out, other: [
            _edit(name, lambda x: [x[0], *x[:-1]])(out, other) for name in ("records.ndjson", "proofs.ndjson")
        ],
        True,
        "out of order, or twice",
    ),
    "two records swapped": (_edit("records.ndjson", lambda x: [x[1], x[0], *x[2:]]), False, "was changed"),
    "two records swapped, signed": (
        _edit("records.ndjson", lambda x: [x[1], x[0], *x[2:]]),
        True,
        "its bytes do not have its leaf hash",
    ),
    "a proof's path": (_proof(path=lambda p: ["00" * 32, *p["path"][1:]]), False, "proofs.ndjson was changed"),
    "a proof's path, signed": (_proof(path=lambda p: ["00" * 32, *p["path"][1:]]), True, "is not in the log"),
    "a shorter path, signed": (_proof(path=lambda p: p["path"][:-1]), True, "is not in the log"),
    "a proof's position, signed": (_proof(position=lambda p: p["position"] + 1), True, "is not in the log"),
    "a proof's leaf, signed": (_proof(leaf=lambda _: "ab" * 32), True, "do not have its leaf hash"),
    "a proof's id, signed": (_proof(id=lambda _: "dec_other"), True, "is of another record"),
    "a table": (_edit("decisions.csv", lambda x: x[:-1]), False, "decisions.csv was changed"),
    "an event": (_edit("auditevents.ndjson", lambda x: x[:-1]), False, "auditevents.ndjson was changed"),
    "the manifest's count": (_manifest(count=lambda m: m["count"] - 1), False, "was changed after it was signed"),
    "the manifest's filter": (_manifest(filter=lambda _: "kind=*"), False, "was changed after it was signed"),
    "the manifest's count, signed": (_manifest(count=lambda m: m["count"] + 1), True, "counts 10 records"),
    "a checkpoint of another log, signed": (_checkpoint_of, True, "not signed by the log's key"),
    "a checkpoint that was edited, signed": (_manifest(checkpoint=_bigger_head), True, "not signed by the log's key"),
    "the whole export of another log": (_replaced, False, "none that you trust"),
    "no note": (lambda out, _: (out / "manifest.note").unlink(), False, "manifest.note is missing"),
    "no records": (lambda out, _: (out / "records.ndjson").unlink(), False, "records.ndjson is missing"),
    "no manifest": (lambda out, _: (out / "manifest.json").unlink(), False, "manifest.json is missing"),
    "a file elsewhere, signed": (
        _manifest(files=lambda m: [*m["files"], {"name": "../log.sqlite3", "sha256": "", "rows": 0}]),
        True,
        "lists a file that can be none",
    ),
    "another note": (
        lambda out, other: shutil.copy(other / "manifest.note", out / "manifest.note"),
        False,
        "not signed by the log's key of that time or a later one",
    ),
}


def _sign_again(out, signer):
    manifest = json.loads((out / "manifest.json").read_bytes())
    for file in manifest["files"]:
        if (out / file["name"]).resolve().parent == out.resolve():
            file["sha256"] = hashlib.sha256((out / file["name"]).read_bytes()).hexdigest()
    body = (json.dumps(manifest, indent=2) + "\n").encode()
    (out / "manifest.json").write_bytes(body)
    note = signer.sign(f"medvlm-gateway export\n{hashlib.sha256(body).hexdigest()}\n")
    (out / "manifest.note").write_text(note)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.replace(" ", "-"))
def test_each_tampering_is_found(original, tmp_path, verify, attack):
    folder, own, _ = original
    tamper, signed, told = ATTACKS[attack]
    out = tmp_path / "out"
    shutil.copytree(folder / "out", out)
    tamper(out, folder / "other")
    if signed:
        _sign_again(out, own)
    code, said = verify(out, "--key", own.vkey)
    assert (code, told in said) == (1, True), said


def test_the_untouched_copy_verifies_and_signing_again_changes_nothing_of_it(original, tmp_path, verify):
    folder, own, foreign = original
    out = tmp_path / "out"
    shutil.copytree(folder / "out", out)
    assert verify(out, "--key", own.vkey)[0] == 0
    _sign_again(out, own)
    assert verify(out, "--key", own.vkey)[0] == 0
    code, said = verify(out, "--key", foreign.vkey)
    assert (code, "none that you trust" in said) == (1, True)


def test_a_stranger_who_signs_with_a_key_of_their_own_is_found(original, tmp_path, verify):
    folder, _, foreign = original
    out = tmp_path / "out"
    shutil.copytree(folder / "out", out)
    _edit("records.ndjson", _flip)(out, None)
    _sign_again(out, foreign)
    code, said = verify(out)
    assert (code, "not signed by the log's key of that time or a later one" in said) == (1, True)


def test_a_zip_that_was_edited_or_cut_is_found(original, tmp_path, verify):
    folder, own, _ = original
    path = tmp_path / "out.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in (folder / "out").iterdir():
            body = one.read_bytes()
            archive.writestr(one.name, body.replace(b"refused", b"granted") if one.name == "records.ndjson" else body)
    code, said = verify(path, "--key", own.vkey)
    assert (code, "records.ndjson was changed" in said) == (1, True)
    path.write_bytes(path.read_bytes()[:-100])
    code, said = verify(path, "--key", own.vkey)
    assert code == 1, said
