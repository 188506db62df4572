"""What a ServiceRequest says: what is asked, of which patient and study. Elements of R5 are read beside those of R4."""

from __future__ import annotations

from gateway.intake.fhir_bundle import Body, Bundle, Resource, many, one, text
from gateway.intake.line import Unfit, shown_name

LOINC = "http://loinc.org"
DICOM_UID = "urn:dicom:uid"
_OID = "urn:oid:"
_RANKS = ("stat", "asap", "urgent", "routine")


def concept(value: object) -> str:
    """Give a CodeableConcept (R4), or the one in a CodeableReference (R5), in words: its text, or a code's display."""
    held = one(value)
    held = one(held["concept"]) if "concept" in held else held
    displays = (text(each.get("display")) for each in many(held.get("coding")))
    return text(held.get("text")) or next(filter(None, displays), "")


def question_of(request: Body, lead: str) -> str:
    """Give what is asked: `lead`, then what is requested, the reasons, and the notes, a line each."""
    reasons = [concept(each) for each in [*many(request.get("reasonCode")), *many(request.get("reason"))]]
    reasons = [each for each in reasons if each]
    parts = [lead.strip(), concept(request.get("code"))]
    if reasons:
        parts.append("Reason: " + "; ".join(reasons))
    parts += [text(each.get("text")) for each in many(request.get("note"))]
    return "\n".join(part for part in parts if part)


def rank(request: Body) -> int:
    """Give the place of the request's priority, the most urgent one 0."""
    priority = text(request.get("priority"))
    return _RANKS.index(priority) if priority in _RANKS else len(_RANKS) - 1


def has_type(identifier: Body, code: str) -> bool:
    """Tell whether an identifier is of a type of HL7's table 0203, such as ``MR``."""
    return any(text(each.get("code")) == code for each in many(one(identifier.get("type")).get("coding")))


def issuer(identifier: Body) -> str:
    """Give who issued an identifier: its system, or the assigner's name."""
    return text(identifier.get("system")) or text(one(identifier.get("assigner")).get("display"))


def _chosen(identifiers: object) -> Body:
    """Choose a patient's number: the medical record number, else the official one, else the first that is in use."""
    valued = [each for each in many(identifiers) if text(each.get("value")) and text(each.get("use")) != "old"]

    def last(identifier: Body) -> tuple[bool, bool, bool]:
        use = text(identifier.get("use"))
        return not has_type(identifier, "MR"), use != "official", use == "temp"

    return min(valued, key=last, default={})


def patient_of(request: Resource, bundle: Bundle) -> tuple[Body, frozenset[str]]:
    """Give the identifier of the request's patient, and all its numbers; empty where the subject is no patient.

    Raises:
        Unfit: there is no subject, its reference does not resolve, or the patient has no identifier.
    """
    subject = one(request.body.get("subject"))
    reference, own = text(subject.get("reference")), one(subject.get("identifier"))
    logical = text(own.get("value"))
    if reference:
        try:
            found = bundle.find(reference, request)
        except Unfit:
            if not logical:
                raise
            found = None
        if found is not None:
            if found.kind != "Patient":
                return {}, frozenset()
            identifiers = found.body.get("identifier")
            chosen = _chosen(identifiers) or own
            if not text(chosen.get("value")):
                raise Unfit(f"its patient {shown_name(found.name)} has no identifier; give the patient's number there")
            return chosen, frozenset(text(each.get("value")) for each in [*many(identifiers), own])
    if logical:
        return (own, frozenset([logical])) if text(subject.get("type")) in ("", "Patient") else ({}, frozenset())
    if reference:
        raise Unfit(f"its subject {shown_name(reference)} is not in the bundle; put the Patient there")
    raise Unfit("it names no patient; give `subject` a reference or an identifier")


def study_uid(study: Body) -> str:
    """Give the Study Instance UID of an ImagingStudy, or of a reference's identifier; empty where there is none."""
    for each in [*many(study.get("identifier")), one(study.get("identifier"))]:
        if text(each.get("system")) == DICOM_UID:
            return text(each.get("value")).removeprefix(_OID)
    return ""


def accession(resource: Body) -> str:
    """Give the accession number among a resource's identifiers; empty where there is none."""
    numbers = (text(each.get("value")) for each in many(resource.get("identifier")) if has_type(each, "ACSN"))
    return next(filter(None, numbers), "")


def order(request: Body) -> str:
    """Give the request's first identifier, the number of the order; empty where there is none."""
    return next(filter(None, (text(each.get("value")) for each in many(request.get("identifier")))), "")


def loinc(request: Body) -> tuple[str, str]:
    """Give the request's LOINC code and its display, empty where there is none."""
    code = one(request.get("code"))
    code = one(code["concept"]) if "concept" in code else code
    for each in many(code.get("coding")):
        if text(each.get("system")) == LOINC and text(each.get("code")):
            return text(each.get("code")), text(each.get("display"))
    return "", ""
