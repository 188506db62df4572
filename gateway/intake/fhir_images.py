"""The images of a ServiceRequest: in the bundle, or below the folder of images. Nothing is fetched."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

from gateway.intake.fhir_bundle import Body, Bundle, Resource, many, one, text
from gateway.intake.fhir_words import accession, study_uid
from gateway.intake.line import Options, Unfit, shown_name, spread
from gateway.intake.making import Picture, picture
from gateway.intake.places import Root, read_regular

if TYPE_CHECKING:
    from gateway.intake.scan import Series

_OTHER_IMAGES = ("application/dicom", "application/octet-stream")


class Studies:
    """The DICOM series below the folder of images, found once, when the first ImagingStudy needs them."""

    def __init__(self, root: Root | None) -> None:
        self.root = root
        self._found: dict[str, list[Series]] | None = None

    def series(self, study: str) -> list[Series]:
        """Give the series of a study.

        Raises:
            Unfit: there is no folder, or the study is not there.
        """
        if self.root is None:
            raise Unfit("it names an ImagingStudy, and no folder of images was given; name one with --images-root")
        if self._found is None:
            from gateway.intake.scan import scan  # pydicom costs 0.3 s

            self._found = {}
            for one_series in scan(self.root.folder).series:
                self._found.setdefault(one_series.head.study, []).append(one_series)
        if study not in self._found:
            raise Unfit(f"the study {shown_name(study)} is not below the folder of images; put its DICOM files there")
        return self._found[study]


class Images:
    """The images of one request. What was seen on the way is in the attributes after `pictures` was read."""

    def __init__(self, request: Resource, bundle: Bundle, studies: Studies, options: Options) -> None:
        self._request, self._bundle, self._studies, self._options = request, bundle, studies, options
        self._most = max(options.limits.dicom, options.limits.encoded)
        self.notes: list[str] = []
        self.study_uid = self.accession = self.modality = ""
        self.patients: set[str] = set()

    def pictures(self) -> Iterator[Picture]:
        """Give the images that the request's `supportingInfo` names, in their order, one at a time.

        Raises:
            Unfit: a reference does not resolve, or the gateway would refuse an image.
        """
        for given in many(self._request.body.get("supportingInfo")):
            # In R5 each is a CodeableReference: a concept in words, or a reference one level down.
            wrapped = isinstance(given.get("reference"), dict)
            if "concept" in given and not wrapped:
                continue
            yield from self._reference(one(given["reference"]) if wrapped else given)

    def _reference(self, given: Body) -> Iterator[Picture]:
        reference = text(given.get("reference"))
        if not reference:
            uid = study_uid(given)
            if not uid:
                raise Unfit("a `supportingInfo` names nothing that is in the bundle; give it a `reference`")
            yield from self._study({"identifier": [given["identifier"]]})
            return
        found = self._bundle.find(reference, self._request)
        if found is None:
            yield self._file(reference)
            return
        match found.kind:
            case "Binary":
                yield from self._attachment(found.body, found)
            case "Media":
                yield from self._attachment(one(found.body.get("content")), found)
            case "DocumentReference":
                for content in many(found.body.get("content")):
                    yield from self._attachment(one(content.get("attachment")), found)
            case "ImagingStudy":
                yield from self._study(found.body)
            case _:
                self.notes.append(f"left out {shown_name(found.name)}, which is no image")

    def _file(self, name: str) -> Picture:
        path = unquote(name)
        if self._studies.root is None or path.startswith("#"):
            raise Unfit(f"the reference {shown_name(name)} is not in the bundle, and no --images-root was given")
        return picture(self._studies.root.read(path, self._most), path, self._options)

    def _attachment(self, given: Body, holder: Resource) -> Iterator[Picture]:
        """Give the image of an Attachment or Binary: its data, a Binary of the bundle, or a file."""
        media = text(given.get("contentType")).partition(";")[0].strip().lower()
        if media and not media.startswith("image/") and media not in _OTHER_IMAGES:
            self.notes.append(f"left out {shown_name(holder.name)}, which is {shown_name(media, 80)} and no image")
            return
        if text(given.get("data")):
            yield picture(self._decoded(text(given["data"]), holder), holder.name, self._options)
            return
        url = text(given.get("url"))
        if not url or holder.kind == "Binary":
            raise Unfit(f"{shown_name(holder.name)} holds neither data nor an address; put the image into it")
        inner = self._bundle.find(url, holder if url.startswith("#") else self._request)
        if inner is None:
            yield self._file(url)
        elif inner.kind == "Binary":  # and nothing else: so references end here, however they are tied
            yield from self._attachment(inner.body, inner)
        else:
            raise Unfit(f"{shown_name(holder.name)} points to {shown_name(inner.name)}; expected a Binary or a file")

    def _decoded(self, data: str, holder: Resource) -> bytes:
        if len(data) * 3 // 4 > self._most + self._most // 32:
            raise Unfit(f"{shown_name(holder.name)} is over the limit of {self._most} bytes; send a smaller image")
        try:
            return base64.b64decode("".join(data.split()).encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise Unfit(f"the data of {shown_name(holder.name)} is no base64; encode the whole file") from None

    def _study(self, body: Body) -> Iterator[Picture]:
        """Give the images of an ImagingStudy: of each of its series as many as the options say."""
        uid = study_uid(body)
        if not uid:
            raise Unfit("an ImagingStudy has no Study Instance UID; give it an identifier of system `urn:dicom:uid`")
        self.study_uid = self.study_uid or uid
        self.accession = self.accession or accession(body)
        there = {series.head.series: series for series in self._studies.series(uid)}
        wanted = {text(each.get("uid")): _instances(each) for each in many(body.get("series"))} or {
            name: frozenset[str]() for name in there
        }
        for name, instances in wanted.items():
            series = there.get(name)
            if series is None:
                raise Unfit(f"the series {shown_name(name)} is not below the folder of images; put its files there")
            yield from self._series(series, instances)

    def _series(self, series: Series, instances: frozenset[str]) -> Iterator[Picture]:
        if series.fault:
            raise Unfit(f"series {series.head.series}: {series.fault}")
        self.modality = self.modality or series.head.modality
        self.patients.add(series.head.patient)
        paths, root = series.paths(instances), self._studies.root
        if root is None or not paths:
            raise Unfit(f"no image that its ImagingStudy lists of series {series.head.series} is below the folder")
        for place in spread(len(paths), self._options.images):
            raw = read_regular(root.folder / paths[place], paths[place], self._options.limits.dicom)
            yield picture(raw, paths[place], self._options)


def _instances(series: Body) -> frozenset[str]:
    found: Iterable[str] = (text(each.get("uid")) for each in many(series.get("instance")))
    return frozenset(uid for uid in found if uid)
