"""Records without names: who called, and what people wrote, replaced for an export that need not know. Pure.

Persons, keys, applications and assignees become keyed pseudonyms, the same one for the same person in every export of
one gateway. Reasons are people's own words and may name anybody, so they are left out. Patients, studies and prompts
are pseudonyms and keyed digests in the record already.
"""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import parse_qsl, urlencode

from msgspec.structs import replace

from gateway.records.digest import Digester
from gateway.records.events import AccessV1, BreakGlassV1, CallerV1, ChangeV1, ErasureV1, HoldV1, ReauditV1, ReviewV1
from gateway.records.record import ContextV1, DecisionV1, OpenedV1, Record

WITHHELD = "withheld"
"""Stands for a reason that was given and is left out."""

_NAMING = frozenset({"person", "key", "application"})
_T = TypeVar("_T", bound=str | None)


class Pseudonyms:
    """Makes records pseudonymous, by the gateway's secret."""

    def __init__(self, digester: Digester) -> None:
        self._digester = digester

    def of(self, name: str) -> str:
        """Give the pseudonym of a person, key or application."""
        return "psn-" + self._digester.digest("export pseudonym", name.encode())[:24]

    def _maybe(self, name: str | None) -> str | None:
        return None if name is None else self.of(name)

    def _caller(self, caller: CallerV1) -> CallerV1:
        return replace(
            caller,
            key=self.of(caller.key),
            person=self._maybe(caller.person),
            application=self._maybe(caller.application),
        )

    def _context(self, context: ContextV1 | None) -> ContextV1 | None:
        if context is None:
            return None
        return replace(
            context,
            on_behalf_of=self._maybe(context.on_behalf_of),
            claimed_person=self._maybe(context.claimed_person),
            claimed_application=self._maybe(context.claimed_application),
        )

    def _filter(self, text: str | None) -> str | None:
        if text is None:
            return None
        pairs = parse_qsl(text, keep_blank_values=True)
        return urlencode([(name, self.of(value) if name in _NAMING else value) for name, value in pairs])

    def apply(self, record: Record) -> Record:
        """Give `record` without names and reasons. Its bytes are no longer those of the log."""
        caller = self._caller(record.caller)
        match record:
            case DecisionV1():
                return replace(record, caller=caller, context=self._context(record.context))
            case AccessV1():
                return replace(record, caller=caller, why=_left_out(record.why), filter=self._filter(record.filter))
            case ReviewV1():
                return replace(
                    record,
                    caller=caller,
                    assignee=self._maybe(record.assignee),
                    reason=_left_out(record.reason),
                    meaning=_left_out(record.meaning),
                )
            case HoldV1():
                return replace(record, caller=caller, reason=WITHHELD)
            case ErasureV1():
                return replace(record, caller=caller, reason=_left_out(record.reason))
            case ChangeV1():
                # What was changed may be a key, or a person's role: its subject names them.
                subject = record.subject if record.what.startswith(("policy-", "log-", "vault-")) else None
                return replace(
                    record,
                    caller=caller,
                    subject=subject or self.of(record.subject),
                    before=_left_out(record.before) if subject is None else record.before,
                    after=_left_out(record.after) if subject is None else record.after,
                    reason=_left_out(record.reason),
                )
            case BreakGlassV1():
                return replace(record, caller=caller, reason=WITHHELD, claimed=self._maybe(record.claimed))
            case OpenedV1() | ReauditV1():
                return replace(record, caller=caller)


def _left_out(text: _T) -> _T | str:
    return text if text is None else WITHHELD
