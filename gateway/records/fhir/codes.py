"""The code systems and codes of FHIR and DICOM that audit events are told in."""

from __future__ import annotations

from typing import Any

DCM = "http://dicom.nema.org/resources/ontology/DCM"
LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
REST = "http://hl7.org/fhir/restful-interaction"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ROLE_CODE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
OBSERVATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"

OURS = "urn:medvlm-gateway"
"""Before the names of the gateway's own code systems and of the systems of its ids."""

Coding = dict[str, Any]


def coding(system: str, code: str, display: str | None = None) -> Coding:
    """Make a Coding."""
    made = {"system": system, "code": code}
    if display is not None:
        made["display"] = display
    return made


QUERY = coding(DCM, "110112", "Query")
AUDIT_LOG_USED = coding(DCM, "110101", "Audit Log Used")
EXPORT = coding(DCM, "110106", "Export")
SECURITY_ALERT = coding(DCM, "110113", "Security Alert")
EMERGENCY_STARTED = coding(DCM, "110127", "Emergency Override Started")
SECURITY_CONFIGURATION = coding(DCM, "110129", "Security Configuration")
SOFTWARE_CONFIGURATION = coding(DCM, "110131", "Software Configuration")
USER_ATTRIBUTES = coding(DCM, "110137", "User Security Attributes Changed")
SOURCE_ROLE = coding(DCM, "110153", "Source Role ID")
DESTINATION_ROLE = coding(DCM, "110152", "Destination Role ID")
RECIPIENT = coding(PARTICIPATION, "IRCP", "information recipient")
DELEGATOR = coding(ROLE_CODE, "DELEGATOR", "delegator")
ATTEST = coding(LIFECYCLE, "attest", "Attest Record Lifecycle Event")
AMEND = coding(LIFECYCLE, "amend", "Amend (Update) Record Lifecycle Event")
HOLD = coding(LIFECYCLE, "hold", "Add Legal Hold Record Lifecycle Event")
UNHOLD = coding(LIFECYCLE, "unhold", "Remove Legal Hold Record Lifecycle Event")
DESTROY = coding(LIFECYCLE, "destroy", "Destroy/Delete Record Lifecycle Event")
READ = coding(REST, "read", "read")
SEARCH = coding(REST, "search", "search")
PERSON = coding(ENTITY_TYPE, "1", "Person")
SYSTEM_OBJECT = coding(ENTITY_TYPE, "2", "System Object")
ROLE_PATIENT = coding(OBJECT_ROLE, "1", "Patient")
ROLE_DOMAIN = coding(OBJECT_ROLE, "4", "Domain Resource")
ROLE_USER = coding(OBJECT_ROLE, "11", "Security User Entity")
ROLE_SECURITY = coding(OBJECT_ROLE, "13", "Security Resource")
ROLE_JOB = coding(OBJECT_ROLE, "20", "Job")
ROLE_QUERY = coding(OBJECT_ROLE, "24", "Query")
APPLICATION_SERVER = coding(SOURCE_TYPE, "4", "Application Server")
PSEUDONYMISED = coding(OBSERVATION, "PSEUDED", "pseudonymized")
