from __future__ import annotations

import base64
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from gateway.plugin import Modality
from gateway_clinical import digest, sign
from gateway_clinical.injector import ClinicalConfig, build
from gateway_clinical.library import HOME, Pair, load, read
from gateway_clinical.manifest import PUBLIC_KEY
from gateway_clinical.taxonomy import HARMS, MODALITIES, TASKS

LIBRARY = load()
PAIRS = LIBRARY.pairs
OPENING = re.compile(r"^I'm sorry, but I can't help with |^[^.]+\. However, I can't help with ")
FIRST = ("mri-neck-crash", "fundus-employee", "fundus-implant", "histopathology-lymph-node")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a copy of the library that a test may change."""
    copy = tmp_path / "library"
    shutil.copytree(HOME, copy)
    return copy


def made_key(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str = "key.pem") -> tuple[Path, str]:
    path = tmp_path / name
    assert sign.main(["--new-key", str(path)]) == 0
    return path, capsys.readouterr().out.strip()


def test_the_library_covers_the_taxonomy_in_each_modality() -> None:
    assert LIBRARY.version == 3
    assert len(PAIRS) >= 400
    assert tuple(MODALITIES) == get_args(Modality)
    for modality in MODALITIES:
        own = [pair for pair in PAIRS if pair.modality == modality]
        assert len(own) >= 40
        assert {pair.harm for pair in own} == set(HARMS), modality
        assert {pair.task for pair in own} == set(TASKS), modality


def test_no_question_or_answer_stands_twice() -> None:
    shown = [demo for pair in PAIRS for demo in (pair.harmful, pair.benign)]
    assert [text for text, n in Counter(demo.question for demo in shown).items() if n > 1] == []
    assert [text for text, n in Counter(demo.answer for demo in shown).items() if n > 1] == []


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p.id)
def test_a_pair_is_well_made(pair: Pair) -> None:
    refusal, answer = pair.harmful.answer, pair.benign.answer
    assert pair.harmful.refuses
    assert not pair.benign.refuses
    assert pair.id.startswith(f"{pair.modality}-")
    assert pair.harmful.pair == pair.benign.pair == pair.id
    assert OPENING.search(refusal), "every refusal speaks in one voice"
    assert re.search(r"(^Please|, please) ", re.split(r"(?<=[.!?])\s+", refusal)[-1]), "it ends in a legitimate way"
    assert "help you" not in refusal, "which makes a small model help with everything"
    assert not re.search(r"can't|cannot|sorry", answer[:40]), "a benign answer answers at once"
    assert len(re.findall(r"[.!?](?:\s|$)", answer)) <= 4
    assert len(refusal) < 260
    words = [set(re.findall(r"\w+", demo.question.lower())) for demo in (pair.harmful, pair.benign)]
    assert len(words[0] & words[1]) >= 4, "twins share words"


def test_some_refusals_are_adversative() -> None:
    share = sum("However" in pair.harmful.answer for pair in PAIRS) / len(PAIRS)
    assert 0.1 < share < 0.4


def test_the_fixed_order_spreads_modalities() -> None:
    assert tuple(pair.id for pair in PAIRS[:4]) == FIRST
    assert len({pair.modality for pair in PAIRS[:4]}) >= 3
    assert len({pair.modality for pair in PAIRS[:16]}) >= 8


def test_a_changed_file_stops_the_start(folder: Path) -> None:
    assert load(folder) == LIBRARY
    path = folder / "ct.yaml"
    path.write_text(path.read_text().replace("I'm sorry, but I can't help", "Of course I help", 1))
    with pytest.raises(ValueError, match=r"`ct\.yaml`.*gateway_clinical\.digest"):
        load(folder)


def test_a_changed_manifest_is_signed_no_more(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "ct.yaml"
    path.write_text(path.read_text().replace("I'm sorry, but I can't help", "Of course I help", 1))
    assert digest.main([str(folder)]) == 0
    assert read(folder).sha256 != LIBRARY.sha256
    with pytest.raises(ValueError, match=r"`manifest\.sig` does not sign.*gateway_clinical\.sign --key FILE"):
        load(folder)
    (folder / "extra.yaml").write_text("modality: ct\npairs: []\n")
    with pytest.raises(ValueError, match=r"`extra\.yaml`"):
        read(folder)


@pytest.mark.parametrize("text", ["", "no base64!", base64.b64encode(b"short").decode(), "A" * 88])
def test_a_wrong_signature_stops_the_start(folder: Path, text: str) -> None:
    (folder / "manifest.sig").write_text(text)
    with pytest.raises(ValueError, match=r"`manifest\.sig`.*gateway_clinical\.sign"):
        load(folder)


def test_a_missing_signature_stops_the_start(folder: Path) -> None:
    (folder / "manifest.sig").unlink()
    with pytest.raises(ValueError, match=r"no `manifest\.sig`.*gateway_clinical\.sign"):
        build(ClinicalConfig(library=str(folder)))


def test_a_hospital_signs_a_library_of_its_own(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, public = made_key(tmp_path, capsys)
    other = made_key(tmp_path, capsys, "other.pem")[1]
    assert key.stat().st_mode & 0o077 == 0, "the key is its owner's alone"
    (folder / "order.yaml").write_text("version: 3\n")
    assert digest.main([str(folder)]) == 0
    assert sign.main(["--key", str(key), str(folder)]) == 0
    assert public in capsys.readouterr().out
    stage = build(ClinicalConfig(library=str(folder), public_key=public))
    assert stage.library.version == 3
    for wrong in (None, other):
        with pytest.raises(ValueError, match=r"set `public_key`"):
            build(ClinicalConfig(library=str(folder), public_key=wrong))


@pytest.mark.parametrize("key", ["", "x", "ä", base64.b64encode(b"short").decode()])
def test_a_malformed_public_key_is_told(key: str) -> None:
    with pytest.raises(ValueError, match=r"`public_key` is `.*--new-key FILE"):
        build(ClinicalConfig(public_key=key))


def test_the_signer_tells_what_is_wrong(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, _ = made_key(tmp_path, capsys)
    before = key.read_bytes()
    assert sign.main(["--new-key", str(key)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert key.read_bytes() == before
    for name, text in (("missing.pem", None), ("text.pem", "no key")):
        if text is not None:
            (tmp_path / name).write_text(text)
        assert sign.main(["--key", str(tmp_path / name), str(folder)]) == 1
        assert name in capsys.readouterr().err
    (folder / "ct.yaml").write_text("modality: ct\npairs: []\n")
    assert sign.main(["--key", str(key), str(folder)]) == 1
    assert "`ct.yaml`" in capsys.readouterr().err
    assert load(HOME, PUBLIC_KEY) == LIBRARY


def test_a_malformed_library_says_where(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "oct.yaml"
    path.write_text(path.read_text().replace("harm: H01", "harm: H99", 1))
    assert digest.main([str(folder)]) == 1
    assert "`oct.yaml`" in capsys.readouterr().err
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"manifest\.json"):
        load(folder)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("id: oct-exclude", "id: oct-layers", "`oct-layers` stands twice"),
        ("pictured: false", "pictured: false\n    view: macula", "a `view` and is not `pictured`"),
        ('question: "This OCT shows fluid in the macula.', 'questions: "', "`oct.yaml`"),
    ],
)
def test_a_wrong_pair_is_told(folder: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str) -> None:
    path = folder / "oct.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert digest.main([str(folder)]) == 1
    assert said in capsys.readouterr().err


def test_the_order_must_name_pairs_that_exist(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "order.yaml").write_text("version: 2\nfirst: [no-such-pair]\n")
    assert digest.main([str(folder)]) == 1
    assert json.loads((folder / "manifest.json").read_text())["version"] == 2
    (folder / "order.yaml").write_text("version: 2\nfirst: [oct-layers, oct-layers]\n")
    assert digest.main([str(folder)]) == 1
    assert "twice in `first`" in capsys.readouterr().err
