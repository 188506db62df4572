"""The stage over real requests, with the shipped weights."""

from __future__ import annotations

import asyncio
import hashlib
import io
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image as Picture

from gateway.plugin import Image, Modality, Request, Text, Turn
from gateway.testing import check_stage
from gateway_modality import ModalityConfig, build, gateway_prescreeners
from gateway_modality.judge import Verdict
from gateway_modality.loading import FILES, FOLDER, load, sha256, write_manifest
from gateway_modality.stage import ModalityScreen, contradicts
from gateway_modality.training import drawing
from gateway_modality.words import stated


def as_image(picture: Picture.Image, number: int = 0, *, modality: Modality | None = None, form: str = "PNG") -> Image:
    out = io.BytesIO()
    picture.save(out, form)
    data = out.getvalue()
    return Image(
        id=f"messages[0].content[{number + 1}]",
        data=data,
        media_type="image/png" if form == "PNG" else "image/jpeg",
        width=picture.width,
        height=picture.height,
        digest=hashlib.sha256(data).hexdigest(),
        source="png",
        modality=modality,
    )


def request(*images: Image, text: str = "What does this show?", role: str = "user") -> Request:
    question = Text(id="messages[0].content[0]", text=text)
    turn = Turn(role=role, parts=(question, *images))  # type: ignore[arg-type]  # one of the four
    return Request(id="d1", department="radiology", model="m", turns=(turn,))


def chart(number: int = 0) -> Picture.Image:
    charts = [picture for picture, name in drawing.others(0) if name.startswith("chart")]
    return charts[number]


@pytest.fixture(scope="module")
def screen() -> ModalityScreen:
    return build(ModalityConfig())


async def test_keeps_the_contract() -> None:
    (offer,) = gateway_prescreeners()
    await check_stage(offer, "prescreener")


async def test_a_chart_is_no_clinical_image(screen: ModalityScreen) -> None:
    found = await screen.screen(request(as_image(chart())))
    assert (found.risk, found.inspected, found.found, found.findings) == (0.0, (), (), ())
    assert found.scores[0].label == "none"
    assert 1 >= found.scores[0].value >= found.scores[1].value >= 0
    assert "abstained" not in found.notes


@pytest.mark.parametrize(
    "text", ["What is in this chest X-ray?", "Read the attached axial CT.", "here is my brain MRI"]
)
async def test_a_chart_said_to_be_a_scan(screen: ModalityScreen, text: str) -> None:
    image = as_image(chart())
    (finding,) = (await screen.screen(request(image, text=text))).findings
    assert (finding.kind, finding.part, finding.label) == ("mismatch", image.id, "none")
    assert 0.5 < finding.score <= 1


async def test_a_tag_counts_as_said(screen: ModalityScreen) -> None:
    assert (await screen.screen(request(as_image(chart(), modality="mri")))).findings[0].label == "none"


async def test_what_nobody_said_is_no_mismatch(screen: ModalityScreen) -> None:
    for asked in (
        request(as_image(chart())),
        request(as_image(chart()), text="Is this a CT?"),
        request(as_image(chart()), as_image(chart(1), 1), text="What does this CT show?"),  # which of the two?
        request(as_image(chart()), text="this chest X-ray", role="assistant"),
        request(as_image(chart(), modality="dermoscopy")),  # of which no true picture was ever seen
    ):
        assert (await screen.screen(asked)).findings == ()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Does this chest X-ray show a fracture?", "xray"),
        ("Describe the attached T2-weighted brain MRI.", "mri"),
        ("Here is a mammogram.", "mammography"),
        ("these axial CT slices", "ct"),
        ("THIS FUNDUS PHOTO", "fundus"),
        ("What does this optical coherence tomography show?", "oct"),
        ("this optical coherence tomography (OCT) scan", "oct"),
        ("this H&E slide", "histopathology"),
        ("Is this a CT?", None),
        ("Is this an MRI or a CT?", None),
        ("Compare this CT with the earlier MRI.", None),
        ("Should I order a CT for this patient?", None),
        ("This CT report says there is a mass.", None),
        ("This CT-guided biopsy", None),
        ("the octopus in this picture", None),
        ("", None),
    ],
)
def test_what_is_said(text: str, kind: str | None) -> None:
    assert stated([text]) == kind


def test_a_long_text_takes_no_time() -> None:
    began = time.perf_counter()
    for text in ("this " * 50_000, "this chest " * 30_000, "here is a " * 30_000, "x" * 1_000_000):
        assert stated([text]) is None
    assert time.perf_counter() - began < 0.5


def test_what_contradicts_what() -> None:
    assert contradicts("ct", "mri")
    assert contradicts("xray", "none")
    assert not contradicts("ct", "ct")
    assert not contradicts("mammography", "xray")
    assert not contradicts("dermoscopy", "histopathology")
    assert contradicts("dermoscopy", "ct")
    assert not contradicts("endoscopy", "none")


class Fixed:
    """Says the same of every image, and counts."""

    def __init__(self, label: str, *, sure: bool = True) -> None:
        self.verdict = Verdict(label, sure, ((label, 0.9), ("none", 0.1)))
        self.looks = 0

    def look(self, data: bytes) -> Verdict:
        self.looks += 1
        if not data:
            raise OSError("broken")
        return self.verdict


def plain(shade: int, number: int = 0, *, modality: Modality | None = None) -> Image:
    return as_image(Picture.new("RGB", (8, 8), (shade % 256, shade // 256, 0)), number, modality=modality)


async def test_a_scout_view_is_part_of_a_ct_study() -> None:
    stage = ModalityScreen(Fixed("xray"))  # type: ignore[arg-type]  # a stand-in
    assert (await stage.screen(request(plain(1, modality="ct")))).findings == ()
    assert (await stage.screen(request(plain(1, modality="ct"), text="this CT"))).findings[0].label == "xray"
    assert (await stage.screen(request(plain(1, modality="mri")))).findings[0].label == "xray"


async def test_an_unsure_image_contradicts_nothing() -> None:
    stage = ModalityScreen(Fixed("xray", sure=False))  # type: ignore[arg-type]  # a stand-in
    found = await stage.screen(request(plain(1, modality="mri"), text="this CT"))
    assert (found.findings, found.notes) == ((), ("abstained",))


async def test_many_images_are_bounded() -> None:
    judge = Fixed("ct")
    stage = ModalityScreen(judge, max_images=16)  # type: ignore[arg-type]  # a stand-in
    found = await stage.screen(request(*(plain(n, n, modality="mri") for n in range(500))))
    assert judge.looks == 16
    assert "too-many" in found.notes
    assert len(found.findings) == 16
    assert found.inspected == ()


async def test_the_same_image_is_looked_at_once_and_the_cache_is_bounded() -> None:
    judge = Fixed("ct")
    stage = ModalityScreen(judge, cache=2)  # type: ignore[arg-type]  # a stand-in
    for shade in (0, 1, 2, 2, 1, 0):
        await stage.screen(request(plain(shade), plain(shade, 1)))
    assert judge.looks == 4


async def test_a_broken_image_is_not_looked_at() -> None:
    stage = ModalityScreen(Fixed("ct"))  # type: ignore[arg-type]  # a stand-in
    broken = msgspec.structs.replace(plain(0), data=b"", digest="0" * 64)
    found = await stage.screen(request(broken))
    assert (found.scores, found.findings, found.notes) == ((), (), ("not-looked-at",))


async def test_true_bytes_that_are_broken(screen: ModalityScreen) -> None:
    good = as_image(chart())
    for data in (b"no image", good.data[:200], good.data[:-500]):
        image = msgspec.structs.replace(good, data=data, digest=sha256(data))
        assert (await screen.screen(request(image))).notes == ("not-looked-at",)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (2, 3), (16000, 20)])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "LA", "P"])
async def test_odd_shapes(screen: ModalityScreen, size: tuple[int, int], mode: str) -> None:
    found = await screen.screen(request(as_image(Picture.new(mode, size))))
    assert abs(sum(score.value for score in found.scores) - 1) < 0.5
    assert "not-looked-at" not in found.notes


async def test_a_huge_image_is_not_looked_at(screen: ModalityScreen) -> None:
    found = await screen.screen(request(as_image(Picture.new("L", (6000, 5000)))))
    assert found.notes == ("not-looked-at",)


async def test_no_image_is_quick(screen: ModalityScreen) -> None:
    began = time.perf_counter()
    found = await screen.screen(request())
    assert time.perf_counter() - began < 0.01
    assert (found.risk, found.inspected, found.scores, found.notes) == (0.0, (), (), ())


async def test_times(screen: ModalityScreen) -> None:
    rng = np.random.default_rng(7)
    image = as_image(Picture.fromarray(rng.integers(0, 256, (512, 512, 3), np.uint8)))
    began = time.perf_counter()
    await screen.screen(request(image))
    middle = time.perf_counter()
    await screen.screen(request(image))
    assert middle - began < 0.4
    assert time.perf_counter() - middle < 0.02


async def test_the_same_on_many_threads(screen: ModalityScreen) -> None:
    images = [as_image(picture, n) for n, (picture, _) in enumerate(drawing.others(3))]
    alone = [await build(ModalityConfig()).screen(request(images[0]))]
    together = await asyncio.gather(*(screen.screen(request(image)) for image in images))
    assert together[0] == alone[0]


async def test_says_nothing_of_what_it_reads(
    screen: ModalityScreen, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    await screen.screen(request(as_image(chart(2)), text="MARKER774 in this CT"))
    out, err = capfd.readouterr()
    assert "MARKER774" not in out + err + caplog.text


def test_importing_the_plugin_loads_no_engine() -> None:
    code = "import gateway_modality, sys; print(sorted({'onnxruntime', 'numpy', 'torch', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "onnxruntime" not in done.stdout
    assert "torch" not in done.stdout


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(FOLDER, folder)
    digest = load(folder).digest
    load(folder, digest)
    with pytest.raises(ValueError, match="another sha256"):
        load(folder, "0" * 64)
    for name in FILES:
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before + b" ")
        with pytest.raises(ValueError, match="not the file that its manifest names"):
            load(folder)
        (folder / name).write_bytes(before)
    (folder / "head.json").write_bytes(b"{}")
    write_manifest(folder, {})
    with pytest.raises(ValueError, match="does not hold a head"):
        load(folder)
    (folder / "head.json").unlink()
    with pytest.raises(ValueError, match="can not be read"):
        load(folder)


@pytest.mark.parametrize("config", [{"threads": 0}, {"max_images": 0}, {"cache": -1}, {"sha256": "x"}, {"sides": 3}])
def test_wrong_configuration(config: dict[str, int]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(config, ModalityConfig)
