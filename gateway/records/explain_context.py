"""Who asked, why, for whom and where, told in plain words."""

from __future__ import annotations

import datetime as dt

from gateway.records.context import PURPOSES
from gateway.records.events import CallerV1
from gateway.records.permissions import ALL
from gateway.records.record import ContextV1, DecisionV1
from gateway.records.words import listed, short

_VIA = {
    "oidc": "signed in with a token (OIDC)",
    "session": "signed in to the console",
    "os": "at the command line of the gateway's machine",
}

_CLOCK = {
    "synchronised": "The clock of its host was synchronised, as the system said.",
    "unsynchronised": "The clock of its host was NOT synchronised: the time of day may be wrong, durations are not.",
    "unknown": "Whether the clock of its host was synchronised could not be found out.",
    "jumped": "The clock of its host had just JUMPED: the time of day may be wrong, durations are not.",
}


def moment(at: dt.datetime) -> str:
    """Write a point in time."""
    return f"{at:%d %B %Y at %H:%M:%S} UTC"


def who(caller: CallerV1) -> str:
    """Tell who called: key, department, roles, and person and application where they are known."""
    roles = listed(caller.roles) or "none"
    of = "for all departments" if caller.department == ALL else f"of the department {caller.department}"
    more = [
        f"used by {caller.person}" if caller.person else "",
        f"in the application {caller.application}" if caller.application else "",
        "" if caller.via == "key" else _VIA.get(caller.via, f"signed in by `{caller.via}`"),
        f"with what the break-glass {caller.grant} lent" if caller.grant else "",
    ]
    told = "".join(f", {one}" for one in more if one)
    return f"the key {caller.key} {of} (roles: {roles}){told}{',' if told else ''}"


def context_lines(said: ContextV1 | None) -> list[str]:
    """Tell what the caller said beside the request, a line each."""
    if said is None:
        return ["The caller did not say."]
    lines = []
    if said.purpose is not None:
        known = PURPOSES.get(said.purpose)
        lines.append(f"Purpose of use: {known} (`{said.purpose}`)." if known else f"Purpose of use: `{said.purpose}`.")
    if said.task is not None:
        lines.append(f"Task: `{said.task}`.")
    if said.on_behalf_of is not None:
        lines.append(f"On behalf of {said.on_behalf_of}.")
    pseudonyms = (("patient", said.patient), ("study", said.study), ("user", said.user))
    lines += [f"The {kind} with the pseudonym {short(value)}." for kind, value in pseudonyms if value is not None]
    claims = (("person", said.claimed_person), ("application", said.claimed_application))
    claimed = tuple(f"the {kind} {value}" for kind, value in claims if value is not None)
    if claimed:
        lines.append(f"The caller claimed to be {listed(claimed)}; no sign-in shows that.")
    return lines


def where_lines(record: DecisionV1) -> list[str]:
    """Tell where it was decided, and what the time is worth; nothing where the record does not say."""
    lines = []
    if record.where is not None:
        where = record.where
        lines.append(
            f"The gateway of the data folder {short(where.instance)}, on the host with the digest "
            f"{short(where.host)}, in the process started as {where.process}."
        )
    if record.clock is not None:
        lines.append(_CLOCK[record.clock])
    return lines
