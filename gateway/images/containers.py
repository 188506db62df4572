"""Walk the structure of a PNG, JPEG or WebP file before anything is decoded.

Each walk checks that the file is one image from its first byte to its last, reads the true size from the header, and
gives back the file with only those pieces that pixels need: comments, colour profiles, thumbnails, EXIF and XMP never
reach a decoder. Sources: PNG Specification (Third Edition) 5 and 11; ITU-T T.81 annex B; RFC 9649 (WebP).
"""

from __future__ import annotations

import re
import struct
import zlib

from msgspec import Struct

from gateway.images.limits import Limits, broken, check_frames, check_ratio, check_size

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECES = 65_536  # chunks or segments in one file; honest ones hold a few thousand
_INFLATE_FIRST = 4 << 20  # bytes of raw pixels from which a PNG is inflated once, discarding, before it is decoded
_DEFLATE_RATIO = 1_032  # bytes that one byte of a deflate stream can become at most
_JPEG_RATIO = 512  # pixels that one byte of a JPEG can become at most: a bit for each 8 x 8 block
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


class Container(Struct, frozen=True, kw_only=True):
    """A checked file: `data` is what a decoder may see, `orientation` EXIF's, 1..8, `lossy` says how it was coded."""

    data: bytes
    width: int
    height: int
    orientation: int = 1
    frames: int = 1
    lossy: bool = False


def _no_tail(raw: bytes, end: int, kind: str) -> None:
    tail = len(raw) - end
    if tail and raw.count(0, end) != tail:  # padding with zeros says nothing to any parser
        raise broken(
            f"after the {kind} ends {tail} bytes follow, as in a file that is two formats at once; save the image anew"
        )


def _orientation(tiff: bytes) -> int:
    """Read EXIF's Orientation (1 where there is none) from the first directory of a TIFF header."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 10:
        return 1
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for place in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", tiff, place)
        if tag == 0x0112 and kind == 3:
            (value,) = struct.unpack_from(order + "H", tiff, place + 8)
            return value if 1 <= value <= 8 else 1
    return 1


def _png_raw_size(width: int, height: int, bits: int, interlaced: bool) -> int:
    if not interlaced:
        return height * (1 + (width * bits + 7) // 8)
    total = 0
    for left, top, across, down in _ADAM7:
        columns, rows = (width - left + across - 1) // across, (height - top + down - 1) // down
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _png_holds(pieces: list[memoryview], size: int) -> bool:
    """Tell whether the IDAT chunks inflate to exactly `size` bytes, in constant memory."""
    stream, got = zlib.decompressobj(), 0
    for piece in pieces:
        data: bytes | memoryview = piece[8:-4]
        while data and not stream.eof:
            got += len(stream.decompress(data, 1 << 16))
            if got > size:
                return False
            data = stream.unconsumed_tail
    while not stream.eof:
        more = stream.decompress(b"", 1 << 16)
        if not more:
            break
        got += len(more)
    return got == size


def walk_png(raw: bytes, limits: Limits) -> Container:
    """Check a PNG. An animated one shows its still image, the one that every PNG decoder shows.

    Raises:
        InvalidImage: it is broken, hostile or over a limit.
    """
    if raw[8:16] != b"\x00\x00\x00\rIHDR" or len(raw) < 33:
        raise broken("the PNG does not begin with its header; send a whole PNG file")
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", raw[16:29])
    check_size(width, height, limits)
    if depth not in _DEPTHS.get(colour, ()) or interlace > 1:
        raise broken("the PNG's header names a kind of pixel that does not exist; save the image anew")
    view, place, kept, image, frames, turn = memoryview(raw), 8, [memoryview(PNG)], [], 1, 1
    for _ in range(_PIECES):
        if len(raw) - place < 12:
            raise broken("the PNG ends before its end chunk: it is truncated; send the whole file")
        (length,) = struct.unpack_from(">I", raw, place)
        kind = raw[place + 4 : place + 8]
        if length > len(raw) - place - 12:
            raise broken(
                f"a chunk of the PNG claims {length} bytes where {len(raw) - place - 12} are left: it is truncated or "
                "lies; send the whole file"
            )
        chunk = view[place : place + 12 + length]
        place += 12 + length
        if kind == b"IDAT":
            image.append(chunk)
            kept.append(chunk)
        elif kind in (b"IHDR", b"PLTE", b"tRNS", b"IEND"):
            kept.append(chunk)
        elif kind == b"acTL" and length == 8:
            (frames,) = struct.unpack_from(">I", chunk, 8)
            check_frames(frames, limits)
        elif kind == b"eXIf":
            turn = _orientation(bytes(chunk[8:-4]))
        elif not kind[0] & 0x20:
            raise broken("the PNG holds a chunk of an unknown kind that it calls critical; save the image anew")
        if kind == b"IEND":
            break
    else:
        raise broken(f"the PNG holds more than {_PIECES} chunks; save the image anew")
    _no_tail(raw, place, "PNG")
    size = _png_raw_size(width, height, depth * _CHANNELS[colour], bool(interlace))
    coded = sum(len(chunk) - 12 for chunk in image)
    if size > coded * _DEFLATE_RATIO or (size > _INFLATE_FIRST and not _png_holds(image, size)):
        raise broken(f"the PNG claims {width} x {height} pixels and does not hold them; send the whole file")
    return Container(
        data=b"".join(kept), width=width, height=height, orientation=turn, frames=max(frames, 1), lossy=False
    )


def walk_jpeg(raw: bytes, limits: Limits, *, what: str = "JPEG") -> Container:
    """Check a JPEG: baseline or progressive Huffman coding, 8 bits.

    Raises:
        InvalidImage: it is broken, hostile or over a limit.
    """
    view, place, kept, size, scans, turn = memoryview(raw), 2, [memoryview(JPEG[:2])], None, 0, 1
    for _ in range(_PIECES):
        if raw[place : place + 1] != b"\xff":
            raise broken(f"the {what} is truncated or broken between two markers; send the whole file")
        while raw[place + 1 : place + 2] == b"\xff":
            place += 1
        code = raw[place + 1] if place + 1 < len(raw) else 0
        if code == 0xD9:
            kept.append(view[place : place + 2])
            place += 2
            break
        if len(raw) - place < 4 or code < 0xC0 or 0xD0 <= code <= 0xD8:
            raise broken(f"the {what} is truncated or broken between two markers; send the whole file")
        (length,) = struct.unpack_from(">H", raw, place + 2)
        end = place + 2 + length
        if length < 2 or end > len(raw):
            raise broken(f"a segment of the {what} claims more bytes than there are; send the whole file")
        if code in (0xC0, 0xC1, 0xC2):
            if size is not None or length < 8:
                raise broken(f"the {what} holds more than one header, or half of one; save the image anew")
            bits, height, width = struct.unpack_from(">BHH", raw, place + 4)
            if bits != 8:
                raise broken(f"the {what} has {bits} bits for each sample; send one of 8 bits, or a PNG")
            check_size(width, height, limits)
            if width * height > len(raw) * _JPEG_RATIO:
                raise broken(f"the {what} claims {width} x {height} pixels and can not hold them; send the whole file")
            size = (width, height)
        elif 0xC3 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            raise broken(f"the {what} is lossless, arithmetic or hierarchical; send a baseline or progressive one")
        if code == 0xDA:
            scans += 1
            if size is None or scans > limits.scans:
                raise broken(f"the {what} has no header, or more than {limits.scans} scans; save the image anew")
            found = _MARKER.search(raw, end)
            if found is None:
                raise broken(f"the {what} ends before its end marker: it is truncated; send the whole file")
            end = found.start()
        if code == 0xE1 and raw.startswith(b"Exif\x00\x00", place + 4):
            turn = _orientation(raw[place + 10 : end])
        if not (0xE1 <= code <= 0xEF or code == 0xFE) or (code == 0xEE and raw.startswith(b"Adobe", place + 4)):
            kept.append(view[place:end])  # Adobe's segment says how colours are coded
        place = end
    else:
        raise broken(f"the {what} holds more than {_PIECES} segments; save the image anew")
    if size is None or not scans:
        raise broken(f"the {what} holds no image; send the whole file")
    _no_tail(raw, place, what)
    return Container(data=b"".join(kept), width=size[0], height=size[1], orientation=turn, lossy=True)


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int]:
    if kind == b"VP8X" and len(body) >= 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8 " and len(body) >= 10 and body[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    if kind == b"VP8L" and len(body) >= 5 and body[:1] == b"\x2f":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise broken("the WebP's header is broken; send the whole file")


def walk_webp(raw: bytes, limits: Limits) -> Container:
    """Check a WebP. An animated one shows its first frame.

    Raises:
        InvalidImage: it is broken, hostile or over a limit.
    """
    (length,) = struct.unpack_from("<I", raw, 4)
    end = 8 + length
    if length < 12 or end > len(raw):
        raise broken(f"the WebP claims {length} bytes where {len(raw) - 8} are left: it is truncated or lies")
    place, kept, size, frames, turn, lossy = 12, list[bytes](), None, 0, 1, False
    for _ in range(_PIECES):
        if place == end:
            break
        if end - place < 8:
            raise broken("the WebP ends within a chunk: it is truncated; send the whole file")
        kind = raw[place : place + 4]
        (length,) = struct.unpack_from("<I", raw, place + 4)
        if length > end - place - 8:
            raise broken("a chunk of the WebP claims more bytes than there are: it is truncated or lies")
        body = raw[place + 8 : place + 8 + length]
        place = min(place + 8 + length + (length & 1), end)
        if kind in (b"VP8 ", b"VP8L", b"VP8X"):
            found = _webp_size(kind, body)
            check_size(*found, limits, weight=4)
            check_ratio(*found, len(raw))
            if size is not None and found != size:
                raise broken("the WebP names two sizes; save the image anew")
            size, lossy = found, lossy or kind == b"VP8 "
        if kind == b"VP8X":
            body = bytes([body[0] & 0x12]) + body[1:]  # of its flags, alpha and animation stay
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            turn = _orientation(body.removeprefix(b"Exif\x00\x00"))
        if kind in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"):
            kept.append(kind + struct.pack("<I", len(body)) + body + b"\x00" * (len(body) & 1))
    else:
        raise broken(f"the WebP holds more than {_PIECES} chunks; save the image anew")
    if size is None:
        raise broken("the WebP holds no image; send the whole file")
    check_frames(frames, limits)
    _no_tail(raw, end, "WebP")
    data = b"".join(kept)
    data = b"RIFF" + struct.pack("<I", 4 + len(data)) + b"WEBP" + data
    return Container(
        data=data, width=size[0], height=size[1], orientation=turn, frames=max(frames, 1), lossy=lossy and not frames
    )
