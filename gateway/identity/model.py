"""The types of the identity file: which issuers of bearer tokens are trusted, and what their claims give.

Decoded strictly, as policies are. An option that weakens safety is named for the weakness and is off unless written.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from gateway.policy.model import Duration
from gateway.records.permissions import Role

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures with a private key that only the issuer has. ``HS*`` and ``none`` are not among them, and never will be:
who can check the former can make them, and anybody can make the latter."""

ALGORITHMS: frozenset[str] = frozenset(get_args(Algorithm))

Words = Annotated[str, Meta(min_length=1, max_length=512)]


class _Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all that is decoded from the file: unknown keys are errors."""


class Gives(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rule gives: roles in a department; ``*`` is every department, for roles that ask no model."""

    department: Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9-]{0,63}|\*)$")]
    roles: Annotated[tuple[Role, ...], Meta(min_length=1)]


class Rule(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token whose `claim` has a value gets what the rule gives.

    `claim` is the claim's name, or the path to it as a list (``[realm_access, roles]``). A list has each of its
    entries, a text has itself, and the claims ``scope`` and ``scp`` have each of their words.
    """

    claim: Words | Annotated[tuple[Words, ...], Meta(min_length=1, max_length=8)]
    has: Words
    gives: Gives


class Issuer(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An issuer of tokens, and what is taken from its tokens.

    `id` names it in records; `issuer` is the exact ``iss``; `audience` is what ``aud`` must hold one of. Its keys come
    from `jwks_url` (https, unless on this machine) or `jwks_file`. `leeway` is how far the clocks may differ, at most
    5 minutes; `max_age` how old a token may be, whatever its ``exp`` says. `person` is the claim that tells who it is.
    `types` are the ``typ`` that a token may have; one without counts as ``JWT``. `clients`, where given, are the
    applications (``azp`` or ``client_id``) whose tokens are taken. `single_use`: a token is taken once, by its ``jti``.

    Keys are asked for again after `refresh`, and for a key that is not known at most once in `cooldown`. Where the
    issuer can not be reached, the keys that were there hold on for `stale`; after that nobody is let in.
    """

    id: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,15}$")]
    issuer: Words
    audience: Words | Annotated[tuple[Words, ...], Meta(min_length=1)]
    jwks_url: Words | None = None
    jwks_file: Words | None = None
    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1)] = ("RS256", "ES256", "EdDSA")
    leeway: Duration = Duration(seconds=30.0)
    max_age: Duration = Duration(seconds=86400.0)
    person: Literal["sub", "preferred_username", "email"] = "sub"
    allow_unverified_email: bool = False
    types: Annotated[tuple[Words, ...], Meta(min_length=1)] = ("at+jwt", "JWT")
    clients: tuple[Words, ...] = ()
    single_use: bool = False
    refresh: Duration = Duration(seconds=600.0)
    cooldown: Duration = Duration(seconds=30.0)
    stale: Duration = Duration(seconds=43200.0)
    rules: Annotated[tuple[Rule, ...], Meta(min_length=1)]

    @property
    def audiences(self) -> tuple[str, ...]:
        """The audiences as a tuple, however they are written."""
        return (self.audience,) if isinstance(self.audience, str) else self.audience


class IdentityFile(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    issuers: Annotated[tuple[Issuer, ...], Meta(min_length=1)]
