from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from gateway.plugin import Modality, decode_image
from gateway_clinical.phantoms import SIDE, draw

COLOURED = {"fundus", "dermoscopy", "endoscopy", "histopathology"}
MODALITIES = get_args(Modality)
FINDINGS = [
    ("xray", "wrist", "wrist fracture"),
    ("xray", "hip", "hip fractures"),
    ("xray", "knee", "knee fracture"),
    ("xray", "chest", "chest nodule"),
    ("xray", "chest", "chest with a pulmonary mass"),
    ("xray", "chest", "chest, pleural effusion"),
    ("xray", "chest", "Chest: tube"),
    ("xray", "chest tube", "chest tube bronchus"),
    ("xray", "chest", "chest pneumonia"),
    ("xray", "chest pneumonia", "right lower lobe pneumonia in the chest"),
    ("xray", "chest", "chest rib fractures"),
    ("xray", "chest", "chest cardiomegaly"),
    ("ct", "head", "head haemorrhage"),
    ("ct", "head", "head oedema"),
    ("ct", "abdomen", "liver lesion"),
    ("ct", "abdomen", "kidney stone"),
    ("ct", "chest", "chest nodule"),
    ("ct", "chest", "chest effusion"),
    ("mri", "brain", "brain tumour"),
    ("mri", "brain", "brain, multiple sclerosis"),
    ("mri", "lumbar spine", "lumbar disc herniation"),
    ("mri", "knee", "knee effusion"),
    ("ultrasound", "gallbladder", "gallstones in the gallbladder"),
    ("ultrasound", "kidney", "kidney cyst"),
    ("ultrasound", "kidney", "kidney stone"),
    ("ultrasound", "femoral vein", "femoral vein thrombus"),
    ("mammography", "mlo", "mlo mass"),
    ("mammography", "cc", "cc microcalcifications"),
    ("fundus", None, "haemorrhages"),
    ("fundus", None, "drusen"),
    ("fundus", None, "swollen disc"),
    ("oct", None, "drusen"),
    ("oct", None, "fluid"),
    ("oct", None, "glaucoma"),
    ("dermoscopy", "mole", "melanoma"),
    ("endoscopy", None, "polyp"),
    ("endoscopy", "a polyp", "a small polyp"),
    ("histopathology", "benign", "carcinoma"),
]


def pixels(raw: bytes) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(raw)))


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_same_arguments_give_the_same_bytes(modality):
    assert draw(modality, "a") == draw(modality, "a")
    assert draw(modality, "a", "chest") == draw(modality, "a", "chest")


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("seed", ["a", "b", "c", "d"])
def test_a_small_png_of_the_right_size_and_mode(modality, seed):
    raw = draw(modality, seed)
    picture = Pillow.open(io.BytesIO(raw))
    assert (picture.format, picture.size) == ("PNG", (SIDE, SIDE))
    assert picture.mode == ("RGB" if modality in COLOURED else "L")
    assert len(raw) < 34_000
    shown = pixels(raw)
    assert shown.std() > 15, "a picture shows something"
    assert (shown == 255).mean() < 0.2, "and is not burnt out"


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_png_that_the_gateway_takes_unchanged(modality):
    raw = draw(modality, "a")
    image = decode_image(f"data:image/png;base64,{base64.b64encode(raw).decode()}", id="messages[0]")
    assert (image.width, image.height, image.source) == (SIDE, SIDE, "png")
    assert (pixels(image.data) == pixels(raw)).all()


@pytest.mark.parametrize("modality", MODALITIES)
def test_chunks_are_well_formed(modality):
    raw, at, kinds = draw(modality, "a"), 8, []
    while at < len(raw):
        length, kind = struct.unpack(">I4s", raw[at : at + 8])
        body = raw[at + 4 : at + 8 + length]
        assert struct.unpack(">I", raw[at + 8 + length : at + 12 + length])[0] == zlib.crc32(body)
        kinds.append(kind)
        at += 12 + length
    assert at == len(raw)
    assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}, "pixels and nothing else"


@pytest.mark.parametrize("modality", MODALITIES)
def test_each_seed_gives_a_picture_of_its_own(modality):
    assert len({draw(modality, f"seed {number}") for number in range(6)}) == 6


def test_one_seed_gives_each_modality_its_own():
    assert len({draw(modality, "a") for modality in MODALITIES}) == len(MODALITIES)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("view", ["", "  ", "quixotic", "ÄÖ 日本", "x" * 5000, "the view of a zebra; 1234"])
def test_unknown_words_change_nothing(modality, view):
    assert draw(modality, "a", view) == draw(modality, "a")


@pytest.mark.parametrize(("modality", "plain", "view"), FINDINGS)
def test_a_finding_changes_a_part_of_the_picture(modality, plain, view):
    for seed in ("a", "b"):
        without, shown = (pixels(draw(modality, seed, words)).astype(int) for words in (plain, view))
        changed = np.abs(without - shown) > 12
        assert changed.sum() > 10
        if modality not in ("dermoscopy", "histopathology"):  # a finding there is another lesion altogether
            assert changed.mean() < 0.6


def test_a_view_chooses_the_part_of_the_body():
    parts = {
        "xray": ("chest", "wrist", "hand", "hip", "knee"),
        "ct": ("head", "chest", "abdomen"),
        "mri": ("brain", "spine", "knee"),
        "ultrasound": ("gallbladder", "kidney", "fetus", "vein"),
        "mammography": ("mlo", "cc"),
    }
    for modality, views in parts.items():
        assert len({draw(modality, "a", view) for view in views}) == len(views)
    assert draw("ct", "a", "Livers!") == draw("ct", "a", "an abdominal CT")
    assert draw("xray", "a", "pelvis") == draw("xray", "a", "hips")


def test_left_is_on_the_right_of_a_radiograph():
    plain, left, right = (
        pixels(draw("xray", "a", f"chest {words}")).astype(int) for words in ("", "nodule left", "nodule right")
    )
    for shown, columns in ((left, slice(SIDE // 2, SIDE)), (right, slice(0, SIDE // 2))):
        changed = np.abs(shown - plain) > 25
        assert changed[:, columns].sum() > 0.9 * changed.sum() > 0


@settings(max_examples=15, deadline=None)
@given(modality=st.sampled_from(MODALITIES), seed=st.text(max_size=40), view=st.none() | st.text(max_size=60))
def test_any_text_draws(modality, seed, view):
    assert pixels(draw(modality, seed, view)).shape[:2] == (SIDE, SIDE)
