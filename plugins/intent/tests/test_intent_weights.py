"""Weights on disk: what is changed, broken, missing or not the pinned one stops the start."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway_intent import IntentConfig, build
from gateway_intent.loading import FILES, FOLDER, load, sha256, write_manifest


def copied(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    shutil.copytree(FOLDER, folder)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_changed_weights_are_refused(tmp_path: Path, name: str) -> None:
    folder = copied(tmp_path)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"sha256 differs.*restore it"):
        build(IntentConfig(weights=str(folder)))


def test_corrupt_weights_with_a_true_manifest_are_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "encoder.onnx").write_bytes(b"not a model")
    write_manifest(folder, {})
    with pytest.raises(ValueError, match="can not be loaded"):
        build(IntentConfig(weights=str(folder)))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"manifest\.json` can not be read: set `weights`"):
        build(IntentConfig(weights=str(tmp_path)))


def test_another_manifest_than_the_pinned_one_is_refused() -> None:
    digest = sha256((FOLDER / "manifest.json").read_bytes())
    assert load(None, digest).digest == digest
    with pytest.raises(ValueError, match="another sha256"):
        build(IntentConfig(sha256="0" * 64))


def test_the_card_names_the_weights() -> None:
    card = (FOLDER.parent.parent / "CARD.md").read_text("utf-8")
    for name in (*FILES, "manifest.json"):
        assert sha256((FOLDER / name).read_bytes()) in card
