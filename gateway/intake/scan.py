"""Walk a folder of DICOM files and group what it holds by study and series, from headers alone.

Nothing is trusted: links are not followed, a `DICOMDIR` is not read (the files that it lists lie beside it), and of
each file no more is read than a header may hold. A file costs some 300 bytes of memory.
"""

from __future__ import annotations

import io
import os
import re
import stat
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from msgspec import Struct
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

import gateway.images.dicom  # noqa: F401 -- switches off pydicom's validation and log lines, which quote patients
from gateway.intake.line import Problem, Skipped, Unfit, shown_name

_DEFLATED, _IMPLICIT, _BIG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_DIRECTORY = "1.2.840.10008.1.3.10"
_COLUMNS = 0x00280011  # nothing that is asked of a header comes after it
_HEADER = 8 << 20  # bytes; headers hold kilobytes, those with private data some hundred
_PIECES = 60_000  # reads, up to three for each element; the headers of enhanced images have some hundred elements
_UID = re.compile(r"[0-9.]{1,64}")
_LONGEST = 1_024  # bytes of a value that is asked for
_WANTED = {
    "InstanceUID": 0x00080018,
    "AccessionNumber": 0x00080050,
    "Modality": 0x00080060,
    "SeriesDescription": 0x0008103E,
    "PatientID": 0x00100020,
    "IssuerOfPatientID": 0x00100021,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "SeriesNumber": 0x00200011,
    "InstanceNumber": 0x00200013,
    "Rows": 0x00280010,
    "Columns": _COLUMNS,
}


class Head(Struct, frozen=True, kw_only=True):
    """What a header says of an image. Numbers that are absent or no numbers are None, texts empty."""

    study: str
    series: str
    instance: str
    number: int | None
    series_number: int | None
    modality: str
    description: str
    patient: str
    issuer: str
    accession: str


class Series(Struct, kw_only=True):
    """The images of a series: `head` is that of the first file met, `files` their places, numbers and ids."""

    head: Head
    files: list[tuple[float, str, str]]
    fault: str = ""

    def paths(self, instances: Collection[str] = ()) -> tuple[str, ...]:
        """Give the files (of these instances, where some are named) by their paths, in the order of their numbers."""
        return tuple(path for _, path, own in sorted(self.files) if not instances or own in instances)


class Scan(Struct, kw_only=True):
    """What a folder holds: series by study and number, what is no image, and what is broken."""

    series: list[Series]
    skipped: list[Skipped]
    problems: list[Problem]


class _Bounded:
    """A file of which only so much may be read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._pieces, self._bytes = _PIECES, _HEADER
        self.tell, self.seek = file.tell, file.seek

    def read(self, size: int = -1) -> bytes:
        self._pieces -= 1
        self._bytes -= size if size >= 0 else _HEADER + 1
        if self._pieces < 0 or self._bytes < 0:
            raise Unfit("its header is larger than headers are")
        return self._file.read(size)


def _text(data: Any, keyword: str) -> str:
    raw = data.get_item(_WANTED[keyword], keep_deferred=True)
    if raw is None:
        return ""
    if raw.value is None and getattr(raw, "length", None):  # it was too long to be read
        raise Unfit(f"its {keyword} is longer than {_LONGEST} bytes")
    value = data[_WANTED[keyword]].value
    return "" if value is None else str(value).strip(" \x00")


def _whole(data: Any, keyword: str) -> int | None:
    text = _text(data, keyword)
    try:
        return int(text)
    except ValueError:
        return None


def _dataset(file: BinaryIO) -> tuple[Any, str]:
    """Read the header, and what kind of object the file says it is."""
    bounded = _Bounded(file)
    meta = read_dataset(cast(BinaryIO, bounded), False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    syntax = str(meta.get("TransferSyntaxUID", "")).strip("\x00 ")
    if syntax == _DEFLATED:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(_HEADER), _HEADER)
        bounded = _Bounded(io.BytesIO(inflated))
    data = read_dataset(
        cast(BinaryIO, bounded),
        syntax == _IMPLICIT,
        syntax != _BIG,
        stop_when=lambda tag, _vr, _length: tag > _COLUMNS,
        defer_size=_LONGEST,
        specific_tags=[BaseTag(tag) for tag in _WANTED.values()],
    )
    return data, str(meta.get("MediaStorageSOPClassUID", "")).strip("\x00 ")


def read_head(path: Path) -> Head | Skipped:
    """Read the header of a file; `Skipped` where it is no DICOM image.

    Raises:
        Unfit: it is a DICOM file whose header is broken, or lacks what identifies its series.
        OSError: it can not be read.
    """
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return Skipped(where=path.name, why="it is no DICOM file")
        try:
            with warnings.catch_warnings():  # pydicom's quote values
                warnings.simplefilter("ignore")
                data, media = _dataset(file)
            if media == _DIRECTORY:
                return Skipped(where=path.name, why="it is a DICOMDIR; the files that it lists are found without it")
            head = Head(
                study=_text(data, "StudyInstanceUID"),
                series=_text(data, "SeriesInstanceUID"),
                instance=_text(data, "InstanceUID"),
                number=_whole(data, "InstanceNumber"),
                series_number=_whole(data, "SeriesNumber"),
                modality=_text(data, "Modality").upper(),
                description=_text(data, "SeriesDescription"),
                patient=_text(data, "PatientID"),
                issuer=_text(data, "IssuerOfPatientID"),
                accession=_text(data, "AccessionNumber"),
            )
            size = (_whole(data, "Rows"), _whole(data, "Columns"))
        except (Unfit, OSError):
            raise
        except Exception:  # noqa: BLE001 -- pydicom raises what it likes on hostile bytes, and its messages quote them
            raise Unfit("its header is damaged; send the whole file") from None
    if not all(size):
        kind = f" ({shown_name(head.modality, 16)})" if head.modality else ""
        return Skipped(where=path.name, why=f"it is a DICOM object without an image{kind}")
    if not _UID.fullmatch(head.study) or not _UID.fullmatch(head.series):
        raise Unfit("its header names no study and series by UID; send it as it came from the archive")
    return head


def _walk(folder: Path, lost: Callable[[OSError], None]) -> Iterator[os.DirEntry[str]]:
    """Give every entry below `folder` that is no folder, by name. Memory holds one folder's names at a time."""
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as exc:
            lost(exc)
            continue
        folders = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                yield entry
        waiting += reversed(folders)


def scan(folder: Path, tick: Callable[[], object] = lambda: None) -> Scan:
    """Read the headers of all files below `folder`; `tick` is called for each.

    Raises:
        Unfit: there is no such folder.
    """
    if not folder.is_dir():
        raise Unfit(f"{shown_name(str(folder))} is no folder; name a folder of DICOM files")
    found: dict[str, Series] = {}
    seen: set[str] = set()
    made = Scan(series=[], skipped=[], problems=[])

    def lost(exc: OSError) -> None:
        made.problems.append(_unreadable(str(exc.filename or folder), exc))

    for entry in _walk(folder, lost):
        tick()
        name = os.path.relpath(entry.path, folder)
        try:
            if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                made.skipped.append(
                    Skipped(where=name, why="it is a link or no regular file; put the file itself there")
                )
                continue
            head = read_head(Path(entry.path))
        except OSError as exc:
            made.problems.append(_unreadable(name, exc))
            continue
        except Unfit as exc:
            made.problems.append(Problem(where=name, why=str(exc)))
            continue
        if isinstance(head, Skipped):
            made.skipped.append(Skipped(where=name, why=head.why))
        elif head.instance and head.instance in seen:
            made.skipped.append(Skipped(where=name, why="it is the same instance as an earlier file"))
        else:
            seen.add(head.instance)
            _add(found, head, name)
    made.series = sorted(found.values(), key=_order)
    return made


def _unreadable(name: str, exc: OSError) -> Problem:
    return Problem(where=name, why=f"it can not be read ({(exc.strerror or type(exc).__name__).lower()})")


def _order(one: Series) -> tuple[str, float, str]:
    number = one.head.series_number
    return one.head.study, float("inf") if number is None else number, one.head.series


def _add(found: dict[str, Series], head: Head, name: str) -> None:
    one = found.setdefault(head.series, Series(head=head, files=[]))
    one.files.append((float("inf") if head.number is None else head.number, name, head.instance))
    first = one.head
    if (head.patient, head.issuer) != (first.patient, first.issuer):
        one.fault = "its files name more than one patient; ask about them by patient"
    elif head.study != first.study:
        one.fault = "its files name more than one study; a series belongs to one"
