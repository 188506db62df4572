"""Verifying as an officer does: by the command line, and a single proof by the script that needs no gateway."""

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from store.kit import SECRET, outcomes

from gateway.cli import main
from gateway.records.note import Signer, parse_note, parse_vkey
from gateway.store import FileKey, Store, VerifyOptions, verify_rows
from gateway.store import verify as verify_module

STRANGER = Signer("stranger", Ed25519PrivateKey.from_private_bytes(bytes(32))).verifier.vkey


async def append(store, number):
    return [(await store.decisions.append(outcomes.refused())).id for _ in range(number)]


@pytest.mark.parametrize("jobs", [1, 2])
async def test_many_ranges_side_by_side(store, monkeypatch, jobs):
    monkeypatch.setattr(verify_module, "_PART", 256)
    monkeypatch.setattr(verify_rows, "TILES_READ", 1)
    await append(store, 700)
    store.sequencer._batch = 90
    await store.sequencer.catch_up()
    await append(store, 3)
    seen = []
    report = await store.decisions.check(seen.append, wanted=VerifyOptions(jobs=jobs))
    assert (report.problem, report.records, report.size, report.waiting) == (None, 703, 700, 3)
    assert (sum(seen), report.checkpoints) == (703, 8)


class Gateway:
    """The command line over a data folder."""

    def __init__(self, data, monkeypatch):
        self.data = data
        self.url = f"sqlite:///{data}/gateway.sqlite3"
        monkeypatch.setenv("GATEWAY_DATA_DIR", str(data))
        monkeypatch.setenv("GATEWAY_SECRET", SECRET.hex())
        for name in ("DATABASE_URL", "LOG_KEY", "LOG_NAME", "CHECKPOINT_SINKS"):
            monkeypatch.delenv(f"GATEWAY_{name}", raising=False)

    def __call__(self, *words):
        done = CliRunner().invoke(main, ["log", *words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    def fill(self, number):
        async def work():
            store = await Store.open(self.url, secret=SECRET, log_key=FileKey(self.data / "log.key"))
            ids = await append(store, number)
            await store.sequencer.catch_up()
            body = (await store.decisions.get(ids[0])).bytes
            await store.close()
            return ids, body

        return asyncio.run(work())

    def sql(self, *statements):
        with sqlite3.connect(self.data / "gateway.sqlite3") as connection:
            return [connection.execute(statement).fetchall() for statement in statements]


@pytest.fixture
def gateway(tmp_path, monkeypatch):
    return Gateway(tmp_path / "data", monkeypatch)


@pytest.fixture
def script(gateway, tmp_path):
    """The stand-alone verifier as it is printed: `run(*words)` gives exit status, stdout, stderr."""
    path = tmp_path / "elsewhere" / "verify_export.py"
    path.parent.mkdir()
    code, out, _ = gateway("verifier")
    assert code == 0
    path.write_text(out)

    def run(*words):
        command = [sys.executable, "-I", str(path), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def test_verify_tells_what_holds_and_records_that_it_was_asked(gateway):
    gateway.fill(5)
    vkey = gateway.sql("SELECT vkey FROM log_keys")[0][0][0]
    code, out, err = gateway("verify", "--trust", vkey)
    assert (code, err) == (0, "")
    assert out.startswith("6 records, each as it was written: 5 in the tree under 1 signed checkpoints, 1 waiting")
    code, out, _ = gateway("verify", "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["records"], told["waiting"], told["problem"]) == (0, True, 7, 2, None)
    assert "taken at its word" in told["remarks"][0]
    bodies = [json.loads(row[0]) for row in gateway.sql("SELECT body FROM decision_log WHERE kind = 'access.v1'")[0]]
    assert [(body["action"], body["endpoint"], body["caller"]["via"]) for body in bodies] == [
        ("verify", "gateway log verify", "os")
    ] * 2


def test_verify_names_what_does_not_and_exits_with_one(gateway, tmp_path):
    ids, _ = gateway.fill(5)
    code, _, err = gateway("verify", "--trust", STRANGER)
    assert (code, "none that you trust" in err) == (1, True)
    code, _, err = gateway("verify", "--trust", "no key")
    assert (code, "expected a public key" in err) == (2, True)
    copies = tmp_path / "copies.notes"
    copies.write_text(gateway("checkpoint")[1])
    assert gateway("verify", "--checkpoints", str(copies))[0] == 0
    gateway.sql("DROP TRIGGER decision_log_no_update", "UPDATE decision_log SET outcome = NULL WHERE sequence = 3")
    code, out, err = gateway("verify", "--json", "--checkpoints", str(copies))
    told = json.loads(out)
    assert (code, told["ok"], told["sequence"]) == (1, False, 3)
    assert ids[2] in told["problem"]
    code, out, err = gateway("verify")
    assert (code, out) == (1, "")
    assert "error: record 3 " in err and "Traceback" not in err


def test_a_key_file_of_another_log_and_none(gateway):
    gateway.fill(2)
    path = gateway.data / "log.key"
    path.rename(path.with_name("kept"))
    code, out, err = gateway("verify")
    assert (code, "this machine can not sign" in err) == (0, True), "who verifies needs no key"
    FileKey(path).create()
    code, _, err = gateway("verify")
    assert (code, "is not the one that signs this log" in err) == (1, True)
    path.unlink()
    code, _, err = gateway("checkpoint")
    assert (code, "--lost-key" in err) == (2, True)
    code, out, _ = gateway("rotate-key", "--lost-key", "--reason", "the disk burnt")
    assert code == 0 and parse_vkey(out.split()[-1])
    code, _, err = gateway("verify")
    assert (code, "was not put in its place by the key before it" in err) == (1, True)
    vkeys = [row[0] for row in gateway.sql("SELECT vkey FROM log_keys ORDER BY number")[0]]
    assert gateway("verify", "--trust", vkeys[0], "--trust", vkeys[1])[0] == 0


@pytest.mark.parametrize("harm", ["header", "middle"])
def test_a_damaged_file_is_said_without_a_traceback(gateway, harm):
    gateway.fill(300)
    path = gateway.data / "gateway.sqlite3"
    gateway.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    root = gateway.sql("SELECT rootpage FROM sqlite_master WHERE name = 'decision_log'")[0][0][0]
    with path.open("r+b") as file:
        file.seek(0 if harm == "header" else (root - 1) * 4096)
        file.write(b"\xff" * 4096)
    code, out, err = gateway("verify")
    assert (code, out) == (1, "")
    assert "damaged" in err or "no SQLite database" in err
    assert "Traceback" not in err


def test_one_proof_holds_elsewhere(gateway, script, tmp_path):
    ids, body = gateway.fill(300)
    vkey = gateway.sql("SELECT vkey FROM log_keys")[0][0][0]
    code, out, _ = gateway("prove", ids[0], "--json")
    assert code == 0
    proof, record = tmp_path / "proof.json", tmp_path / "record"
    proof.write_text(out)
    record.write_bytes(body + b"\n")
    code, said, warned = script("--key", vkey, "--record", record, proof)
    assert (code, warned) == (0, "")
    assert said == "this record, byte for byte, is in the log at the place 0, under the signed root of its first 301\n"
    code, said, warned = script(proof)
    assert (code, "NO KEY WAS GIVEN" in warned) == (0, True)
    assert script("--key", STRANGER, proof)[0] == 1
    assert script("--key", "nonsense", proof)[0] == 1
    assert script("--key", vkey, tmp_path / "nowhere")[0] == 2
    code, out, _ = gateway("prove", ids[0])
    assert f"record  {ids[0]}" in out and vkey in out
    code, _, err = gateway("prove", "dec_none")
    assert (code, "the tree holds no record `dec_none`" in err) == (1, True)


def harms(proof):
    def change(**values):
        return json.dumps({**proof, **values})

    note = proof["checkpoint"]
    lines = note.split("\n")
    yield "leaf", change(leaf="00" * 32)
    yield "place", change(position=proof["position"] + 1)
    yield "size", change(size=proof["size"] + 1)
    yield "path", change(path=["00" * 32, *proof["path"][1:]])
    yield "short path", change(path=proof["path"][1:])
    yield "root", change(checkpoint=note.replace(lines[2], "A" * 43 + "="))
    yield "name", change(checkpoint=note.replace(lines[0], "other", 1))
    yield "no signature", change(checkpoint="\n".join(lines[:4]))
    yield "no keys", change(keys=[])
    yield "format", change(format="medvlm-gateway-proof/2")
    yield "no proof", "[]"
    yield "no json", "{"
    yield "record", None


def test_a_changed_proof_does_not(gateway, script, tmp_path):
    ids, body = gateway.fill(3)
    proof = json.loads(gateway("prove", ids[0], "--json")[1])
    vkey = proof["keys"][0]["vkey"]
    path, record = tmp_path / "proof.json", tmp_path / "record"
    for name, text in harms(proof):
        path.write_text(json.dumps(proof) if text is None else text)
        record.write_bytes(body.replace(b"radiology", b"pathology") if text is None else body)
        code, out, err = script("--key", vkey, "--record", record, path)
        assert (code, out) == (1, ""), name
        assert err.startswith("error: ") and "Traceback" not in err, name


def test_a_proof_after_a_rotation_rests_on_the_first_key(gateway, script, tmp_path):
    ids, _ = gateway.fill(2)
    first = gateway.sql("SELECT vkey FROM log_keys")[0][0][0]
    assert gateway("rotate-key", "--reason", "as planned")[0] == 0
    code, _, err = gateway("rotate-key")
    assert (code, "--reason" in err) == (2, True)
    gateway.fill(2)
    proof = tmp_path / "proof.json"
    proof.write_text(gateway("prove", ids[0], "--json")[1])
    told = json.loads(proof.read_text())
    second = told["keys"][1]["vkey"]
    assert parse_note(told["checkpoint"]).signed_by(parse_vkey(second))
    for key in (first, second):
        assert script("--key", key, proof)[0] == 0
    told["keys"][1]["note"] = told["keys"][1]["note"].replace(" records", "x") + "— a AAAAAAAA\n"
    told["keys"][1]["note"] = "\n".join(
        line for line in told["keys"][1]["note"].split("\n") if parse_vkey(first).id.hex() not in line
    ).replace(told["keys"][1]["note"].split("\n")[7], "")
    proof.write_text(json.dumps(told))
    assert script("--key", first, proof)[0] == 1
    assert gateway("verify", "--trust", first)[0] == 0


def test_the_verifier_needs_nothing_of_the_gateway(script, tmp_path):
    text = (tmp_path / "elsewhere" / "verify_export.py").read_text()
    assert text == Path(verify_module.__file__).with_name("verify_export.py").read_text()
    assert "gateway" not in [
        line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))
    ]
    assert shutil.which("python3")
