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
from numpy.typing import NDArray
from PIL import Image as Picture

from gateway.plugin import Image, Request, Text, Turn
from gateway.testing import check_stage
from gateway_perturbation import PerturbationConfig, build, gateway_prescreeners
from gateway_perturbation.detector import Unfit
from gateway_perturbation.loading import FILES, FOLDER, load, sha256, write_manifest
from gateway_perturbation.signs import GRAIN, SIGNS, grain, views
from gateway_perturbation.stage import PerturbationScreen
from gateway_perturbation.training import clean

Pixels = NDArray[np.uint8]


def phantom(seed: int = 0, side: int = 320) -> Pixels:
    """Draw something like a slice through a body: black around it, smooth regions, soft noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    grey = np.zeros((side, side))
    grey[(x / 0.42) ** 2 + (y / 0.36) ** 2 < 1] = 90
    for _ in range(5):
        cx, cy, a, b = rng.uniform(-0.2, 0.2), rng.uniform(-0.15, 0.15), *rng.uniform(0.04, 0.12, 2)
        grey[((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1] = rng.uniform(30, 220)
    coarse = Picture.fromarray((grey + rng.normal(0, 3, grey.shape) * (grey > 0)).clip(0, 255).astype(np.uint8))
    return np.asarray(coarse.convert("RGB"), np.uint8)


def as_image(pixels: Pixels | Picture.Image, number: int = 0) -> Image:
    picture = pixels if isinstance(pixels, Picture.Image) else Picture.fromarray(pixels)
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    data = out.getvalue()
    return Image(
        id=f"messages[0].content[{number + 1}]",
        data=data,
        media_type="image/png",
        width=picture.width,
        height=picture.height,
        digest=hashlib.sha256(data).hexdigest(),
        source="png",
    )


def request(*images: Image, text: str = "What does this show?") -> Request:
    question = Text(id="messages[0].content[0]", text=text)
    return Request(id="d1", department="radiology", model="m", turns=(Turn(role="user", parts=(question, *images)),))


@pytest.fixture(scope="module")
def screen() -> PerturbationScreen:
    return build(PerturbationConfig(floor=0.0))


async def score(screen: PerturbationScreen, pixels: Pixels) -> float:
    (finding,) = (await screen.screen(request(as_image(pixels)))).findings
    assert (finding.kind, finding.part, finding.label) == ("adversarial-noise", "messages[0].content[1]", None)
    return finding.score


async def test_keeps_the_contract() -> None:
    (offer,) = gateway_prescreeners()
    await check_stage(offer, "prescreener")


@pytest.mark.parametrize("way", sorted(clean.WAYS))
async def test_what_happens_to_pictures_is_no_attack(screen: PerturbationScreen, way: str) -> None:
    scores = [await score(screen, clean.WAYS[way](phantom(n), np.random.default_rng(n))) for n in range(4)]
    assert sum(value >= 0.5 for value in scores) <= 1


async def test_strong_noise_of_its_own_in_each_channel(screen: PerturbationScreen) -> None:
    base = phantom(1).astype(int)
    noise = np.random.default_rng(0).choice([-16, 16], base.shape)
    attacked = np.clip(base + noise, 0, 255).astype(np.uint8)
    assert await score(screen, attacked) > await score(screen, phantom(1))


async def test_claims_nothing_about_harm(screen: PerturbationScreen) -> None:
    found = await screen.screen(request(as_image(phantom())))
    assert (found.risk, found.inspected, found.found, found.scores, found.part) == (0.0, (), (), (), None)


async def test_a_low_score_is_no_finding() -> None:
    stage = PerturbationScreen(Fixed(0.04), floor=0.05)  # type: ignore[arg-type]  # a stand-in
    assert (await stage.screen(request(as_image(phantom())))).findings == ()


class Fixed:
    """Gives every image the same score, and counts."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.looks = 0

    def score(self, data: bytes, size: tuple[int, int]) -> float:
        self.looks += 1
        if not data:
            raise ValueError("not an image")
        if size == (1, 1):
            raise Unfit("too-small")
        return self.value


def plain(shade: int, number: int = 0) -> Image:
    return as_image(Picture.new("RGB", (8, 8), (shade % 256, shade // 256, 0)), number)


async def test_many_images_are_bounded() -> None:
    detector = Fixed(0.9)
    stage = PerturbationScreen(detector)  # type: ignore[arg-type]  # a stand-in
    found = await stage.screen(request(*(plain(n, n) for n in range(500))))
    assert detector.looks == len(found.findings) == 8
    assert found.notes == ("too-many",)
    assert found.inspected == ()


async def test_pixels_of_a_request_are_bounded() -> None:
    detector = Fixed(0.9)
    stage = PerturbationScreen(detector)  # type: ignore[arg-type]  # a stand-in
    large = [msgspec.structs.replace(plain(n, n), width=5000, height=5000) for n in range(4)]
    found = await stage.screen(request(*large))
    assert detector.looks == len(found.findings) == 2
    assert found.notes == ("too-many",)


async def test_the_same_image_is_judged_once_and_the_cache_is_bounded() -> None:
    detector = Fixed(0.9)
    stage = PerturbationScreen(detector, cache=2)  # type: ignore[arg-type]  # a stand-in
    for shade in (0, 1, 2, 2, 1, 0):
        assert len((await stage.screen(request(plain(shade), plain(shade, 1)))).findings) == 2
    assert detector.looks == 4


async def test_what_can_not_be_judged_is_said(screen: PerturbationScreen) -> None:
    good = as_image(phantom())
    bad = msgspec.structs.replace(good, data=b"no image", digest="0" * 64)
    assert (await screen.screen(request(bad))).notes == ("unreadable",)
    assert (await screen.screen(request(as_image(Picture.new("L", (6000, 5000)))))).notes == ("too-large",)
    assert (await screen.screen(request(as_image(Picture.new("L", (1, 1)))))).notes == ("too-small",)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (31, 40), (32, 32), (33, 4000), (16000, 40), (40, 16000)])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "LA", "P"])
async def test_odd_shapes(screen: PerturbationScreen, size: tuple[int, int], mode: str) -> None:
    began = time.perf_counter()
    found = await screen.screen(request(as_image(Picture.new(mode, size))))
    assert bool(found.findings) == (min(size) >= 32)
    assert time.perf_counter() - began < 5  # bounded, on a busy machine too


@pytest.mark.parametrize("shape", [(32, 32), (57, 33), (400, 385), (33, 900), (1200, 1000)])
def test_signs_are_finite(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    for pixels in (
        rng.integers(0, 256, (*shape, 3), np.uint8),
        np.zeros((*shape, 3), np.uint8),
        np.full((*shape, 3), 255, np.uint8),
    ):
        found = grain(pixels)
        assert found.shape == (GRAIN,)
        assert np.isfinite(found).all()
        made = views(pixels)
        assert len({view.shape for view in made}) == 1
        assert max(made[0].shape) <= 448
    assert SIGNS > GRAIN


async def test_no_image_is_quick(screen: PerturbationScreen) -> None:
    began = time.perf_counter()
    found = await screen.screen(request())
    assert time.perf_counter() - began < 0.01
    assert (found.risk, found.inspected, found.findings, found.notes) == (0.0, (), (), ())


async def test_a_repeated_image_is_quick(screen: PerturbationScreen) -> None:
    image = as_image(phantom(9, 512))
    first = await screen.screen(request(image))
    began = time.perf_counter()
    assert await screen.screen(request(image)) == first
    assert time.perf_counter() - began < 0.02


async def test_the_same_on_many_threads(screen: PerturbationScreen) -> None:
    images = [as_image(phantom(n), n) for n in range(6)]
    together = await asyncio.gather(*(screen.screen(request(image)) for image in images))
    fresh = build(PerturbationConfig(floor=0.0))
    assert [await fresh.screen(request(image)) for image in images] == list(together)


async def test_says_nothing_of_what_it_reads(
    screen: PerturbationScreen, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    await screen.screen(request(as_image(phantom(4)), text="MARKER774"))
    out, err = capfd.readouterr()
    assert "MARKER774" not in out + err + caplog.text


def test_importing_the_plugin_loads_no_engine() -> None:
    code = "import gateway_perturbation, sys; print(sorted({'onnxruntime', 'cv2', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
    (folder / "detector.json").write_bytes(b"{}")
    write_manifest(folder, {})
    with pytest.raises(ValueError, match="does not hold a detector"):
        load(folder)
    (folder / "detector.json").unlink()
    with pytest.raises(ValueError, match="can not be read"):
        load(folder)


def test_digest_is_of_the_manifest() -> None:
    assert load().digest == sha256((FOLDER / "manifest.json").read_bytes())


@pytest.mark.parametrize("config", [{"threads": 0}, {"max_images": 0}, {"floor": 1.5}, {"sha256": "x"}, {"sides": 3}])
def test_wrong_configuration(config: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(config, PerturbationConfig)
