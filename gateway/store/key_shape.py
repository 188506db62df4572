"""What an API key is, what makes one that can be made, and the short code by which the log tells what it may do."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence
from typing import Any, get_args

from msgspec import Struct

from gateway.errors import InvalidRequest
from gateway.records import ROLES, Caller, Digester, Permission, may
from gateway.records.events import REASON_LONGEST
from gateway.records.permissions import ALL

_DEPARTMENT = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_LABEL_MAX = 200  # characters
_PERSON_MAX = 200  # characters
_APPLICATION_MAX = 64  # characters
_LONGEST_LIFE = dt.timedelta(days=3650)
_RATE_MAX = 1_000_000_000
_SCOPES: tuple[str, ...] = get_args(Permission)


class ApiKey(Struct, frozen=True, kw_only=True):
    """What is known of a key: everything but the key. Times are UTC.

    `scopes` narrow what the roles allow, empty where they do not. `person` and `application` are whose key it is.
    `last_used_at` may be late by a minute. `old_until` is until when the secret before the last rotation works.
    `per_minute` and `per_day` bound its requests in place of the gateway's own limits.
    """

    id: str
    department: str
    roles: tuple[str, ...]
    label: str
    created_at: dt.datetime
    revoked_at: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    last_used_at: dt.datetime | None = None
    scopes: tuple[str, ...] = ()
    person: str | None = None
    application: str | None = None
    old_until: dt.datetime | None = None
    per_minute: int | None = None
    per_day: int | None = None

    @classmethod
    def of(cls, row: Any) -> ApiKey:
        """Read a row of the table."""
        return cls(
            id=row.id,
            department=row.department,
            roles=tuple(row.roles),
            label=row.label,
            created_at=row.created_at,
            revoked_at=row.revoked_at,
            expires_at=row.expires_at,
            last_used_at=row.last_used_at,
            scopes=tuple(row.scopes or ()),
            person=row.person,
            application=row.application,
            old_until=row.old_until,
            per_minute=row.per_minute,
            per_day=row.per_day,
        )

    def values(self) -> dict[str, Any]:
        """Give the values of the columns that say what the key is: not its hashes, and not its use."""
        return {
            "id": self.id,
            "department": self.department,
            "roles": list(self.roles),
            "label": self.label,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "scopes": list(self.scopes) or None,
            "person": self.person,
            "application": self.application,
            "per_minute": self.per_minute,
            "per_day": self.per_day,
        }

    def caller(self) -> Caller:
        """Give who calls with it."""
        return Caller(
            key=self.id,
            department=self.department,
            roles=self.roles,
            person=self.person,
            application=self.application,
            scopes=self.scopes,
            per_minute=self.per_minute,
            per_day=self.per_day,
        )

    def code(self, digester: Digester) -> str:
        """Tell what the key may do, for the log: ``department/roles[/scopes]#digest``.

        The digest is keyed, and also covers what is not told: person, application, expiry and limits.
        """
        ends = None if self.expires_at is None else self.expires_at.isoformat()
        whole = [self.department, self.roles, self.scopes, self.person, self.application, ends]
        body = json.dumps([*whole, self.per_minute, self.per_day]).encode()
        parts = [self.department, "+".join(self.roles), *(["+".join(self.scopes)] if self.scopes else [])]
        return f"{'/'.join(parts)}#{digester.digest('api-key-state', body)[:16]}"


def check(key: ApiKey) -> None:
    """Raise InvalidRequest where there can be no such key."""
    if not _DEPARTMENT.fullmatch(key.department) and key.department != ALL:
        raise InvalidRequest(
            f"`{key.department[:64]}` is no department: use lowercase letters, digits and hyphens", param="department"
        )
    _check_list(key.roles, ROLES, "role", "roles")
    if not key.roles:
        raise InvalidRequest(f"a key needs a role; choose from {', '.join(ROLES)}", param="roles")
    _check_list(key.scopes, _SCOPES, "scope", "scopes")
    unscoped = Caller(key="", department="", roles=key.roles)
    for scope in key.scopes:
        if not may(unscoped, scope):  # type: ignore[arg-type] # it is among the permissions, as was checked
            raise InvalidRequest(
                f"the scope `{scope}` is nothing that {', '.join(key.roles)} may do; scopes narrow, they add nothing",
                param="scopes",
            )
    if key.department == ALL and may(key.caller(), "ask"):
        raise InvalidRequest(
            "a key for all departments can not ask models, since a department's policy decides; name a department, "
            "leave out the roles that ask, or narrow the key by scopes without `ask`",
            param="department",
        )
    _check_text(key.label, _LABEL_MAX, "label")
    _check_text(key.person, _PERSON_MAX, "person")
    _check_text(key.application, _APPLICATION_MAX, "application")
    for name, rate in (("per_minute", key.per_minute), ("per_day", key.per_day)):
        if rate is not None and not 1 <= rate <= _RATE_MAX:
            raise InvalidRequest(f"`{name}` is a whole number from 1 to {_RATE_MAX}", param=name)


def check_life(lasts: dt.timedelta) -> None:
    """Raise InvalidRequest where a key can not be made to last that long."""
    if not dt.timedelta(0) < lasts <= _LONGEST_LIFE:
        raise InvalidRequest(f"a key lasts for at most {_LONGEST_LIFE.days} days; give less", param="expires")


def check_reason(why: str | None) -> None:
    """Raise InvalidRequest where a reason is too long to be recorded."""
    if why is not None and (not why.strip() or len(why) > REASON_LONGEST):
        raise InvalidRequest(f"a reason has 1 to {REASON_LONGEST} characters; give it in short", param="reason")


def _check_list(given: Sequence[str], known: Sequence[str], word: str, param: str) -> None:
    unknown = [one for one in given if one not in known]
    if unknown:
        raise InvalidRequest(f"`{unknown[0][:64]}` is no {word}; choose from {', '.join(known)}", param=param)


def _check_text(text: str | None, longest: int, name: str) -> None:
    if text is None or (name == "label" and not text):
        return
    if not text.strip() or len(text) > longest or not text.isprintable():
        raise InvalidRequest(f"`{name}` has at most {longest} printable characters", param=name)
