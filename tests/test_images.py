"""PNG, JPEG and WebP: what comes out, and what is refused at no cost.

Over 300 lines, because all of it needs the same few makers of files.
"""

import base64
import contextlib
import hashlib
import io
import logging
import pathlib
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib

import pytest
from PIL import Image as Pillow
from PIL import PngImagePlugin

from gateway.errors import InvalidImage
from gateway.images import Limits, decode_bytes, decode_image
from gateway.values import Image

ID = "messages[0].content[1]"


def picture(mode="RGB", size=(40, 24)):
    base = Pillow.radial_gradient("L").resize(size)
    return Pillow.merge("RGB", [base, base.rotate(90), base.rotate(180)]).convert(mode)


def saved(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def url(raw, media="image/png"):
    return f"data:{media};base64,{base64.b64encode(raw).decode()}"


def chunk(kind, body=b""):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width=8, height=8, *, depth=8, colour=0, body=None, extra=b"", tail=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes(width) for _ in range(height))) if body is None else body
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND") + tail


def shown(image):
    return Pillow.open(io.BytesIO(image.data))


def refused(raw, words, **limits):
    with pytest.raises(InvalidImage, match=words) as caught:
        decode_bytes(raw, id=ID, limits=Limits(**limits))
    assert caught.value.param == ID
    assert caught.value.message[0].islower()
    assert not caught.value.message.endswith(".")
    return caught.value


# --- what comes out ---


@pytest.mark.parametrize(("kind", "media"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/jpeg")])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_image_is_decoded_and_encoded_anew(kind, media, mode):
    raw = saved(picture(mode), kind)
    found = decode_image(url(raw, f"image/{kind.lower()}"), id=ID)
    assert (found.id, found.source, found.media_type) == (ID, kind.lower(), media)
    assert (found.width, found.height) == (40, 24) == shown(found).size
    assert found.digest == hashlib.sha256(found.data).hexdigest()
    assert found.data != raw
    if kind == "PNG":
        assert shown(found).tobytes() == picture(mode).tobytes()


@pytest.mark.parametrize("media", ["image/jpg", "image/jpeg", "IMAGE/JPEG", "image/jpeg;name=scan.jpg"])
def test_media_types_are_read_leniently(media):
    assert decode_image(url(saved(picture(), "JPEG"), media), id=ID).source == "jpeg"


def test_base64_in_lines_is_taken():
    coded = base64.encodebytes(saved(picture())).decode()
    assert decode_image(f"data:image/png;base64,{coded}", id=ID).width == 40


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_png_mode_becomes_8_bits_of_grey_or_colour(mode):
    source = picture("L").convert("I;16") if mode == "I;16" else picture(mode)
    found = shown(decode_bytes(saved(source), id=ID))
    assert found.mode == ("RGB" if mode in ("P", "RGB", "RGBA") else "L")


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGB"])
def test_every_jpeg_mode_becomes_8_bits(mode):
    found = shown(decode_bytes(saved(picture(mode), "JPEG"), id=ID))
    assert found.mode == ("L" if mode == "L" else "RGB")


def test_what_is_transparent_lies_on_white():
    see_through = Pillow.new("RGBA", (4, 4), (255, 0, 0, 0))
    see_through.putpixel((0, 0), (0, 0, 255, 255))
    found = shown(decode_bytes(saved(see_through), id=ID))
    assert found.getpixel((0, 0)) == (0, 0, 255)
    assert found.getpixel((1, 1)) == (255, 255, 255)
    palette = Pillow.new("P", (4, 4), 3)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert shown(decode_bytes(saved(palette, transparency=3), id=ID)).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize(("top", "wanted"), [(65_535, 255), (4_095, 255), (200, 200)])
def test_16_bit_grey_loses_only_low_bits(top, wanted):
    body = zlib.compress(b"\0" + struct.pack(">2H", 0, top) + b"\0" + struct.pack(">2H", top, 0))
    found = shown(decode_bytes(png(2, 2, depth=16, body=body), id=ID))
    assert list(found.tobytes()) == [0, wanted, wanted, 0]


def exif(orientation):
    tags = Pillow.Exif()
    tags[0x0112] = orientation
    tags[0x010E] = "PATIENT NAME IN EXIF"
    return tags


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientation_is_applied_and_metadata_goes(kind, orientation):
    upright = Pillow.new("L", (32, 16))
    upright.paste(255, (0, 0, 16, 8))
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decode_bytes(saved(upright, kind, exif=exif(orientation), **options), id=ID)
    corner = {3: (-4, -4), 6: (-4, 4), 8: (4, -4)}[orientation]
    assert (found.width, found.height) == ((32, 16) if orientation == 3 else (16, 32))
    x, y = corner[0] % found.width, corner[1] % found.height
    assert sum(shown(found).convert("RGB").getpixel((x, y))) > 600
    assert b"PATIENT" not in found.data
    assert b"Exif" not in found.data


def test_text_comments_and_profiles_never_come_out():
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "SECRET-MARKER")
    notes.add_itxt("XML", "SECRET-MARKER", zip=True)
    assert b"SECRET" not in decode_bytes(saved(picture(), pnginfo=notes, icc_profile=b"SECRET" * 9), id=ID).data
    assert b"SECRET" not in decode_bytes(saved(picture(), "JPEG", comment=b"SECRET", icc_profile=b"SECRET"), id=ID).data


def frames(count):
    return [Pillow.new("RGB", (16, 16), (place * 20, 0, 0)) for place in range(count)]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_shows_its_first_frame(kind):
    first, *rest = frames(5)
    raw = saved(first, kind, save_all=True, append_images=rest, lossless=True)
    found = decode_bytes(raw, id=ID)
    assert (found.frames, found.frame) == (5, 0)
    assert shown(found).getpixel((8, 8)) == (0, 0, 0)
    refused(raw, "holds 5 frames", frames=4)


def test_a_progressive_jpeg_is_taken():
    assert decode_bytes(saved(picture(), "JPEG", progressive=True), id=ID).source == "jpeg"


# --- what is refused ---


@pytest.mark.parametrize(
    ("given_url", "words", "code"),
    [
        (
            "https://example.org/scan.png",
            "`https` URLs are not fetched; send the image as a base64",
            "invalid_image_url",
        ),
        ("file:///etc/passwd", "`file` URLs are not fetched", "invalid_image_url"),
        ("ftp://example.org/x", "`ftp` URLs", "invalid_image_url"),
        ("  HTTP://169.254.169.254/", "`http` URLs", "invalid_image_url"),
        ("iVBORw0KGgo=", "no URL of an image", "invalid_image_url"),
        ("", "no URL of an image", "invalid_image_url"),
        ("data:image/png;base64", "no comma", "image_parse_error"),
        ("data:image/png,rawbytes", "not base64", "image_parse_error"),
        ("data:image/svg+xml;base64,PHN2Zz4=", "`image/svg\\+xml` is not taken", "invalid_image_format"),
        ("data:image/gif;base64,R0lGODlh", "`image/gif` is not taken", "invalid_image_format"),
        ("data:;base64,AAAA", "no media type", "invalid_image_format"),
        ("data:image/png;base64,@@@@", "not valid base64", "invalid_base64_image"),
        ("data:image/png;base64,iVBORw0", "not valid base64", "invalid_base64_image"),
        ("data:image/png;base64,é", "not valid base64", "invalid_base64_image"),
        ("data:image/png;base64,\ud800", "not valid base64", "invalid_base64_image"),
        ("data:image/png;base64,", "the file is empty", "invalid_image_format"),
    ],
)
def test_urls_that_are_no_image_are_refused(given_url, words, code):
    with pytest.raises(InvalidImage, match=words) as caught:
        decode_image(given_url, id=ID)
    assert (caught.value.code, caught.value.param, caught.value.status) == (code, ID, 400)


def test_a_declared_type_must_be_the_true_one():
    with pytest.raises(InvalidImage, match="declares PNG and holds JPEG"):
        decode_image(url(saved(picture(), "JPEG"), "image/png"), id=ID)
    with pytest.raises(InvalidImage, match="declares DICOM and holds PNG"):
        decode_image(url(png(), "application/octet-stream"), id=ID)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "empty"),
        (b"hello", "no image that is known"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG"),
        (b"\xef\xbb\xbf  <svg onload='x'/>", "an SVG"),
        (b"<html></html>", "markup"),
        (saved(picture(), "GIF"), "a GIF"),
        (saved(picture(), "TIFF"), "a TIFF"),
        (saved(picture(), "BMP"), "a BMP"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04....", "a ZIP"),
        (b"\x00\x00\x00\x1cftypheic", "HEIC"),
        (b"junk" + png(), "no image that is known"),
    ],
)
def test_other_formats_are_named(raw, words):
    assert "send a PNG, JPEG, WebP or DICOM file" in refused(raw, words).message


WHOLE = {kind: saved(picture(size=(64, 48)), kind.upper()) for kind in ("png", "jpeg", "webp")}
TAILS = [b"PK\x03\x04" + b"\0" * 40, b"%PDF-1.4", b"<html><script>", b"GIF89a", WHOLE["png"], b"x"]


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("tail", TAILS)
def test_a_second_format_behind_the_first_is_refused(kind, tail):
    refused(WHOLE[kind] + tail, "ends .* bytes follow")


@pytest.mark.parametrize("kind", WHOLE)
def test_zeros_behind_an_image_are_padding(kind):
    assert decode_bytes(WHOLE[kind] + bytes(7), id=ID).width == 64


@pytest.mark.parametrize("kind", WHOLE)
def test_every_truncation_is_refused(kind):
    whole = WHOLE[kind]
    for end in range(0, len(whole), max(len(whole) // 150, 1)):
        with pytest.raises(InvalidImage):
            decode_bytes(whole[:end], id=ID)


ZEROS = zlib.compress(bytes(40 << 20), 9)  # 40 MiB in 40 kB
SCAN = saved(picture(), "JPEG")
TALL = SCAN.find(b"\xff\xc0") + 5  # where height and width stand
LYING = {
    "sixty thousand on a side": png(60_000, 60_000, body=b"x"),
    "more pixels than the limit": png(16_000, 16_000, body=b"x"),
    "49 million pixels in 100 bytes": png(7_000, 7_000, colour=6, body=b"x" * 20),
    "half of the pixels that it claims": png(7_000, 7_000, body=ZEROS[: len(ZEROS) // 2]),
    "fewer pixels than it claims": png(7_000, 7_000, body=ZEROS),
    "more pixels than it claims": png(5_000, 1_000, body=ZEROS),
    "no pixels": png(0, 10, body=b""),
    "a chunk of 2 GB": png()[:33] + struct.pack(">I", 0x7FFFFFFF) + b"IDAT" + b"x" * 20,
    "a chunk of 4 GB": png()[:33] + struct.pack(">I", 0xFFFFFFFF) + b"tEXt" + b"x" * 20,
    "a depth that does not exist": png(depth=7),
    "a critical chunk that does not exist": png(extra=chunk(b"EVIL", b"x")),
    "a JPEG of 65,500 a side": SCAN[:TALL] + struct.pack(">HH", 65_500, 65_500) + SCAN[TALL + 4 :],
    "a JPEG that can not hold its pixels": SCAN[:TALL] + struct.pack(">HH", 7_000, 7_000) + SCAN[TALL + 4 :],
    "a JPEG of no height": SCAN[:TALL] + struct.pack(">HH", 0, 40) + SCAN[TALL + 4 :],
    "a JPEG of 12 bits": SCAN[: TALL - 1] + b"\x0c" + SCAN[TALL:],
    "a lossless JPEG": SCAN.replace(b"\xff\xc0", b"\xff\xc3", 1),
    "a WebP of 16 million on a side": WHOLE["webp"][:12]
    + b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff" * 6 + WHOLE["webp"][12:],
    "a WebP that claims 4 GB": WHOLE["webp"][:4] + b"\xfe\xff\xff\xff" + WHOLE["webp"][8:],
}  # fmt: skip


@pytest.mark.parametrize("raw", LYING.values(), ids=LYING.keys())
def test_a_lie_costs_no_memory(raw):
    decode_bytes(png(), id=ID)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidImage):
            decode_bytes(raw, id=ID)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


GUARDED = """
import pickle, resource, sys
from gateway.errors import InvalidImage
from gateway.images import decode_bytes
whole, hostile = pickle.load(sys.stdin.buffer)
for raw in whole:
    decode_bytes(raw, id="x")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20), resource.RLIM_INFINITY))
for raw in hostile:
    try:
        decode_bytes(raw, id="x")
    except InvalidImage as exc:
        assert "damaged" not in exc.message, exc.message  # found by its structure, not by a failed allocation
    else:
        sys.exit("taken")
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="reads the size of the process from /proc")
def test_a_lie_costs_no_memory_outside_python_either():
    files = pickle.dumps(([*WHOLE.values()], [*LYING.values()]))
    done = subprocess.run([sys.executable, "-c", GUARDED], input=files, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


def test_compressed_metadata_is_never_inflated():
    bombs = chunk(b"zTXt", b"Comment\0\0" + ZEROS) + chunk(b"iCCP", b"icc\0\0" + ZEROS)
    bombs += chunk(b"iTXt", b"Comment\0\1\0\0\0" + ZEROS)
    tracemalloc.start()
    try:
        found = decode_bytes(png(extra=bombs), id=ID)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.width == 8
    assert peak < 2 << 20


def test_a_file_over_the_limit_is_refused_before_it_is_decoded():
    with pytest.raises(InvalidImage, match="over the limit of 1000 bytes") as caught:
        decode_image("data:image/png;base64," + "A" * 4_000, id=ID, limits=Limits(encoded=1_000, dicom=1_000))
    assert caught.value.code == "image_too_large"
    refused(WHOLE["png"], "over the limit of 100 bytes", encoded=100)
    refused(WHOLE["png"], "64 x 48 pixels", pixels=3_000)
    refused(WHOLE["png"], "64 x 48 pixels", side=63)
    refused(saved(picture(), "JPEG", progressive=True), "more than 2 scans", scans=2)


# --- robustness ---


def mutate(raw, dice):
    raw = bytearray(raw)
    for _ in range(dice.randint(1, 6)):
        place = dice.randrange(len(raw))
        raw[place] ^= 1 << dice.randrange(8)
    return bytes(raw[: dice.randint(1, len(raw))] if dice.random() < 0.2 else raw)


def fix_crcs(raw):
    """Give a PNG whose chunks have right checksums, so that a flipped bit reaches the decoder."""
    out, place = raw[:8], 8
    while place + 12 <= len(raw):
        length = int.from_bytes(raw[place : place + 4], "big")
        if length > len(raw) - place - 12:
            break
        out += chunk(raw[place + 4 : place + 8], raw[place + 8 : place + 8 + length])
        place += 12 + length
    return out + raw[place:]


@pytest.mark.parametrize("kind", WHOLE)
def test_damaged_files_give_an_image_or_invalid_image(kind):
    dice = random.Random(kind)
    for turn in range(600):
        raw = mutate(WHOLE[kind], dice)
        raw = fix_crcs(raw) if kind == "png" and turn % 2 else raw
        with contextlib.suppress(InvalidImage):
            found = decode_bytes(raw, id=ID)
            assert isinstance(found, Image)
            assert shown(found).size == (found.width, found.height)


def test_nothing_of_a_file_reaches_the_logs(caplog):
    caplog.set_level(logging.DEBUG)
    for kind in ("PNG", "JPEG", "WEBP"):
        raw = saved(picture(), kind, exif=exif(6))
        decode_bytes(raw, id=ID)
        with pytest.raises(InvalidImage):
            decode_bytes(raw[:-30], id=ID)
    assert "PATIENT" not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("PIL")]
