"""Collect the free text of a DICOM file, so that stages inspect it; what identifies a person is left out."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from pydicom.charset import decode_bytes
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.filereader import read_sequence
from pydicom.valuerep import VR

from gateway.images.limits import Limits, broken
from gateway.values import Text

_FREE = frozenset({"LO", "LT", "SH", "ST", "UT", "UC"})
_KNOWN = frozenset(str(kind) for kind in VR) - {"UN"}
_LEAST = 4  # letters; fewer are codes and directions
_DEPTH = 8  # sequences in sequences; enhanced and structured objects need five
_DELIMITERS = {"\r", "\n", "\t", "\f"}
_ITEM = b"\xfe\xff\x00\xe0"

# Free-text attributes of the Basic Application Level Confidentiality Profile (PS3.15 table E.1-1) that say who, where
# or which: numbers and names of people, visits, orders, devices and places. Its descriptions and comments are
# inspected.
_IDENTIFYING = re.compile(
    r"(ID|IDs|UID|UIDs|Identifier|Identifiers|SerialNumber|SerialNumbers|AccessionNumber|OrderNumber\w*|ApprovalNumber"
    r"|Address|Addresses|Location|TelecomInformation|TelephoneNumbers?|PhoneNumber|IDIssuer|AETitle|StationName|URI|URL"
    r"|Residence|Organization\w*)$"
    r"|^(Institution|IssuerOf|ClinicalTrial(?!\w*Description)|PatientReligious|PatientInsurance|EthnicGroup|Military)"
    r"|^(Occupation|BranchOfService|RequestingService|MedicalRecordLocator|IdentifyingComments|CountryOfResidence"
    r"|ContactDisplayName|DistributionName|UniqueDeviceIdentifier|LocalNamespaceEntityID|UniversalEntityID"
    r"|OtherPatientIDs|DeviceAlternateIdentifier|PatientTelecomInformation)$"
)


class Reader(io.BytesIO):
    """Bytes that may be read in few pieces only: a file of millions of tiny elements is refused while it is parsed."""

    def __init__(self, raw: bytes, elements: int) -> None:
        super().__init__(raw)
        self.left = 3 * elements  # tag, long length and value are three reads

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most `size` bytes.

        Raises:
            InvalidImage: too many pieces were read.
        """
        self.left -= 1
        if self.left < 0:
            raise broken("the DICOM file holds too many data elements; send one image")
        return super().read(size)


def number(data: Any, keyword: str, default: int) -> int:
    """Read a whole number from a data set; `default` where it is absent.

    Raises:
        InvalidImage: it is no number.
    """
    value = data.get(keyword)
    if value is None or value == "":
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise broken(f"the DICOM file's {keyword} is no whole number; send one that is well formed") from None


class _Walk:
    """One walk over a file's elements, with what it may still spend."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.elements = limits.elements
        self.found: dict[str, str] = {}
        self.seen: set[tuple[str, str]] = set()
        self.characters = 0

    def add(self, place: str, name: str, text: str) -> None:
        text = " ".join(text.replace("\\", " ").replace("\x00", " ").split())
        if sum(letter.isalpha() for letter in text) < _LEAST or (name, text) in self.seen:
            return
        self.seen.add((name, text))
        self.characters += len(text)
        if len(self.found) >= self.limits.texts or self.characters > self.limits.characters:
            raise broken(
                f"the DICOM file holds more free text than is inspected ({self.limits.texts} values, "
                f"{self.limits.characters} characters); send it without comments and private tags"
            )
        self.found[place] = text

    def sequence(self, data: Any, tag: Any, raw: Any) -> Any:
        """Parse the bytes of a sequence within what is left, and keep the result in the data set."""
        reader = Reader(raw.value or b"", self.elements)
        items = read_sequence(
            reader, raw.is_implicit_VR, raw.is_little_endian, len(raw.value or b""), data.original_character_set
        )
        data[tag] = DataElement(tag, "SQ", items)
        return items

    def walk(self, data: Any, path: str, depth: int) -> None:
        if depth > _DEPTH:
            raise broken(f"the DICOM file nests sequences more than {_DEPTH} deep; send one image")
        for tag in list(data.keys()):
            self.elements -= 1
            if self.elements < 0:
                raise broken("the DICOM file holds too many data elements; send one image")
            element = data.get_item(tag, keep_deferred=True)
            name = keyword_for_tag(tag) or f"{int(tag):08x}"
            kind = element.VR
            if kind in (None, "UN") and not tag.is_private:
                try:
                    kind = dictionary_VR(tag)
                except KeyError:
                    kind = "UN"
            raw = not isinstance(element, DataElement)
            value = element.value
            if raw and kind in (None, "UN") and isinstance(value, bytes) and value.startswith(_ITEM):
                kind = "SQ"
            if kind == "SQ":
                items = self.sequence(data, tag, element) if raw else value
                for place, item in enumerate(items):
                    self.walk(item, f"{path}{name}[{place}].", depth + 1)
            elif not _IDENTIFYING.search(name):
                self.text(data, path + name, name, kind, value)

    def text(self, data: Any, place: str, name: str, kind: str | None, value: Any) -> None:
        if not isinstance(value, bytes):
            return
        if kind in _FREE:
            encodings = data.original_character_set or "iso8859"
            codecs = [encodings] if isinstance(encodings, str) else list(encodings)
            self.add(place, name, decode_bytes(value, codecs, _DELIMITERS))
        elif kind not in _KNOWN:
            try:
                text = value.rstrip(b"\x00 ").decode("utf-8")
            except UnicodeDecodeError:
                return
            if len(text) > 2 and all(letter.isprintable() or letter in "\r\n\t\f" for letter in text):
                self.add(place, name, text)


def free_texts(data: Any, *, id: str, limits: Limits) -> tuple[Text, ...]:
    """Give the free text of a pydicom data set, in sequences too, as parts ``<id>#dicom/<Keyword or ggggeeee>``.

    Values of fewer than 4 letters, and repeated ones, are left out, as is what identifies a person.

    Raises:
        InvalidImage: there is more text, or more elements, than `limits` allow.
    """
    walk = _Walk(limits)
    walk.walk(data, "", 0)
    return tuple(Text(id=f"{id}#dicom/{place}", text=text) for place, text in walk.found.items())


def items(data: Any, keyword: str) -> Iterator[Any]:
    """Give the items of a sequence; none where it is absent or no sequence."""
    value = data.get(keyword)
    if isinstance(value, list | tuple) or hasattr(value, "__iter__"):
        yield from (item for item in value if hasattr(item, "keys"))
