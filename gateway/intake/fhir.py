"""A FHIR Bundle of ServiceRequests, of R4 or R5: one line for each active request, the most urgent ones first."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.intake.dicom import patient_of as numbered
from gateway.intake.fhir_bundle import Bundle, Resource, text
from gateway.intake.fhir_images import Images, Studies
from gateway.intake.fhir_words import accession, issuer, loinc, order, patient_of, question_of, rank
from gateway.intake.line import Item, Options, Problem, Skipped, Unfit, shown_name
from gateway.intake.making import gathered, line
from gateway.intake.places import Root

_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_UUID = "urn:uuid:"


def requests(bundle: Bundle) -> list[int]:
    """Give the places of the bundle's ServiceRequests, by priority and then in the bundle's order."""

    def priority(place: int) -> int:
        try:
            return rank(bundle.read(place).body)
        except Unfit:
            return 0

    return sorted(bundle.of_kind("ServiceRequest"), key=priority)


def lines(bundle: Bundle, places: list[int], root: Root | None, lead: str, options: Options) -> Iterator[Item]:
    """Give the lines of the requests at `places`. `lead` is said before what each request asks."""
    studies, seen = Studies(root), dict[str, int]()
    for place in places:
        where = f"entry {place}"
        try:
            request = bundle.read(place)
            where = f"{where}, {shown_name(request.name)}"
            why = _not_meant(request)
            yield Skipped(where=where, why=why) if why else _line(request, place, bundle, studies, seen, lead, options)
        except Unfit as exc:
            yield Problem(where=where, why=str(exc))


def _not_meant(request: Resource) -> str:
    """Say why nothing is to be done for a request; empty where something is.

    Raises:
        Unfit: it holds what changes its meaning in a way that is not known here.
    """
    for name in ("modifierExtension", "implicitRules"):
        if request.body.get(name):
            raise Unfit(f"it has `{name}`, which may change what it means; send it without")
    if request.body.get("doNotPerform") is True:
        return "it asks that something is not done"
    status = text(request.body.get("status"))
    return "" if status == "active" else f"its status is {shown_name(status, 40)} and not `active`"


def _custom_id(request: Resource) -> str:
    own = text(request.body.get("id")) or (request.url or "").removeprefix(_UUID)
    if not _ID.fullmatch(own):
        raise Unfit("it has no id; give it one, or a fullUrl such as `urn:uuid:…`")
    return f"request-{own}"


def _line(
    request: Resource,
    place: int,
    bundle: Bundle,
    studies: Studies,
    seen: dict[str, int],
    lead: str,
    options: Options,
) -> Item:
    custom_id = _custom_id(request)
    first = seen.setdefault(custom_id, place)
    if first != place:
        raise Unfit(f"its id is that of entry {first}; send each request once")
    identifier, numbers = patient_of(request, bundle)
    number, issued_by = text(identifier.get("value")), issuer(identifier)
    images = Images(request, bundle, studies, options)
    pictures = gathered(images.pictures(), options)
    if not pictures:
        raise Unfit("it names no image; name one in `supportingInfo`")
    strangers = images.patients - numbers - {""}
    if numbers and strangers:
        images.notes.append("its DICOM files name another patient's number; check that they belong together")
    code, display = loinc(request.body)
    number_of_study = accession(request.body) or images.accession
    return line(
        custom_id,
        question_of(request.body, lead),
        pictures,
        options,
        said={
            "patient": numbered(number, issued_by, options),
            "study": number_of_study or images.study_uid or order(request.body),
        },
        told={
            "source": "fhir",
            "based_on": f"ServiceRequest/{own}" if (own := text(request.body.get("id"))) else request.url,
            "modality": images.modality,
            "study_uid": images.study_uid,
            "accession": number_of_study,
            "patient_issuer": issued_by if number else None,
            "report_code": code,
            "report_display": display if code else None,
            "priority": text(request.body.get("priority")),
        },
        notes=tuple(images.notes),
    )
