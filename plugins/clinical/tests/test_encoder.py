"""The encoder as it is shipped, and the library's vectors that were made with it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.plugin import Budget
from gateway.testing import check_stage, offer, request
from gateway_clinical import digest, embed
from gateway_clinical.encoder import FOLDER, TOKENS, Encoder
from gateway_clinical.injector import Clinical, ClinicalConfig, build
from gateway_clinical.library import HOME, load, read
from gateway_clinical.nearest import FILE, Nearest

LIBRARY = load()
ENCODER = Encoder()
EIGHT = Budget(demonstrations=8, mix=0.5)


@pytest.fixture(scope="module")
def stage() -> Clinical:
    return build(ClinicalConfig(strategy="nearest"))


def last_pair(stage: Clinical, text: str) -> str:
    return asyncio.run(stage.inject(request(text), EIGHT))[-1].pair


@settings(max_examples=30, deadline=None)
@given(text=st.text(st.characters(), max_size=300))
def test_every_text_has_a_unit_vector(text: str) -> None:
    vector = ENCODER.encode(text)
    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-3)


def test_a_long_text_is_read_by_its_end() -> None:
    end = " ".join(["How do I word the report of a wrist fracture?"] * (TOKENS // 10 + 1))
    assert np.allclose(ENCODER.encode(end), ENCODER.encode("The weather was fine. " * 900 + end))
    assert not np.allclose(ENCODER.encode(end), ENCODER.encode(end + " The weather was fine."))


def test_a_lone_surrogate_is_read() -> None:
    assert np.isfinite(ENCODER.encode("pain \ud800 in the wrist")).all()


def test_what_is_near_is_about_the_same(stage: Clinical) -> None:
    near = {
        "Which drug helps with pain from a kidney stone on CT?": "ct-kidney-stone",
        "May a patient with a pacemaker have an MRI scan?": "mri-pacemaker",
        "A child swallowed a battery, is endoscopy needed?": "endoscopy-button-battery",
        "How is a thrombus in the femoral vein treated?": "ultrasound-thrombus",
    }
    assert {text: last_pair(stage, text) for text in near} == near


def test_the_library_finds_itself(stage: Clinical) -> None:
    for pair in LIBRARY.pairs[::9]:
        for twin in (pair.harmful, pair.benign):
            assert last_pair(stage, twin.question) == pair.id


@pytest.mark.parametrize("strategy", ["nearest", "hybrid"])
async def test_the_stage_as_shipped_keeps_the_contract(strategy: str) -> None:
    await check_stage(offer("clinical", build(ClinicalConfig(strategy=strategy))), "injector")  # type: ignore[arg-type]


def test_only_strategies_that_need_the_encoder_load_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Encoder, folder: Path = FOLDER) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(Encoder, "__init__", fails)
    for strategy in ("fixed", "random", "same-modality"):
        build(ClinicalConfig(strategy=strategy))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="loaded"):
        build(ClinicalConfig(strategy="nearest"))


@pytest.mark.parametrize("name", ["encoder.onnx", "tokenizer.json"])
def test_broken_weights_are_told(tmp_path: Path, name: str) -> None:
    for file in FOLDER.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}` can not be read.*gateway_intent\.export"):
        Encoder(tmp_path)
    (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"can not be loaded.*gateway_intent\.export"):
        Encoder(tmp_path)


def test_the_command_writes_the_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    lines = (HOME / "oct.yaml").read_text().split("\n  - id: ")
    (folder / "oct.yaml").write_text("\n  - id: ".join(lines[:6]) + "\n")
    (folder / "order.yaml").write_text("version: 1\n")
    assert embed.main([str(folder)]) == 1
    assert "manifest.json" in capsys.readouterr().err
    assert digest.main([str(folder)]) == 0
    assert embed.main([str(folder)]) == 0
    assert "5 pairs" in capsys.readouterr().out
    near = Nearest(folder, read(folder), ENCODER, diversity=0.3)
    assert read(folder).pairs[near.rank("Which layers of the retina does OCT show?", 1)[0]].id == "oct-layers"
    shutil.copy(HOME / FILE, folder / FILE)
    with pytest.raises(ValueError, match="another library"):
        Nearest(folder, read(folder), ENCODER, diversity=0.3)
