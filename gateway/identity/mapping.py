"""Who a token's claims say it is, and what the rules give them. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from gateway.errors import NotAuthenticated, NotPermitted
from gateway.identity.model import Issuer, Rule
from gateway.records import Caller

_PLAIN = re.compile(r"[A-Za-z0-9._@+-]+", re.ASCII)
_KEY_MAX = 64
_APPLICATION_MAX = 64
_PERSON_MAX = 200
_SUBJECT_MAX = 255  # OpenID Connect Core 1.0, section 2
_SPACED = frozenset({"scope", "scp"})


def caller_of(claims: Mapping[str, Any], issuer: Issuer) -> Caller:
    """Give who calls by the claims of a token that was checked.

    The first rule that matches gives the department; those after it add their roles where they give the same one.
    Raises NotAuthenticated where the claims do not tell who it is, and NotPermitted where no rule matches.
    """
    person = _person(claims, issuer)
    application = _application(claims, issuer)
    given = [rule.gives for rule in issuer.rules if _matches(rule, claims)]
    if not given:
        raise NotPermitted(
            "your token is good, and no rule of this gateway gives it a role; ask the gateway's operator",
            code="insufficient_permissions",
        )
    department = given[0].department
    roles = (role for gives in given if gives.department == department for role in gives.roles)
    return Caller(
        key=key_of(issuer.id, str(claims["sub"])),
        department=department,
        roles=tuple(dict.fromkeys(roles)),
        person=person,
        application=application,
        via="oidc",
    )


def key_of(issuer: str, subject: str) -> str:
    """Name the holder of a token, in at most 64 characters: ``oidc:<issuer>:<sub>``, or a digest of a long `sub`.

    A digest begins with ``~``, which is in no `sub` that is named as it is: the two never meet.
    """
    head = f"oidc:{issuer}:"
    if _PLAIN.fullmatch(subject) and len(head) + len(subject) <= _KEY_MAX:
        return head + subject
    return f"{head}~{hashlib.sha256(subject.encode()).hexdigest()[:32]}"


def _matches(rule: Rule, claims: Mapping[str, Any]) -> bool:
    path = (rule.claim,) if isinstance(rule.claim, str) else rule.claim
    value: Any = claims
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return False
        value = value[name]
    if isinstance(value, str):
        return rule.has in value.split(" ") if path[-1] in _SPACED else rule.has == value
    return isinstance(value, list) and any(isinstance(one, str) and one == rule.has for one in value)


def _person(claims: Mapping[str, Any], issuer: Issuer) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_MAX or not subject.isprintable():
        raise _unclear("sub")
    person = claims.get(issuer.person)
    if not isinstance(person, str) or not person.strip() or len(person) > _PERSON_MAX or not person.isprintable():
        raise _unclear(issuer.person)
    if issuer.person == "email" and claims.get("email_verified") is not True and not issuer.allow_unverified_email:
        raise NotAuthenticated(
            "the token's `email` is not verified; verify it with the identity provider", code="invalid_token"
        )
    return person


def _application(claims: Mapping[str, Any], issuer: Issuer) -> str | None:
    name = next((claims[claim] for claim in ("azp", "client_id", "appid") if claim in claims), None)
    if name is not None and not (isinstance(name, str) and name.strip() and name.isprintable()):
        raise _unclear("azp")
    if issuer.clients and name not in issuer.clients:
        raise NotAuthenticated(
            "the token was issued to an application that this gateway does not take tokens from; "
            "ask the gateway's operator",
            code="invalid_token",
        )
    if name is None or len(name) <= _APPLICATION_MAX:
        return name
    return f"{name[:31]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _unclear(claim: str) -> NotAuthenticated:
    return NotAuthenticated(
        f"the token does not tell who it is for: its `{claim}` is missing or unusable; "
        "let the identity provider put it into the token",
        code="invalid_token",
    )
