"""`/keys`: list, make, rotate and revoke API keys, for who manages keys. A secret is shown once, in the answer."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from litestar import get, post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from msgspec import Meta, Struct

from gateway.errors import InvalidRequest, NotFound, Unavailable
from gateway.policy.model import Duration
from gateway.records import ALL, Caller, may
from gateway.web.auth import authenticate
from gateway.web.body import InFlight
from gateway.wire.words import quote

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.store import ApiKey

DEFAULT_OVERLAP = "24h"
"""For how long the secret before a rotation goes on working, unless said otherwise."""

_T = TypeVar("_T")
_Words = Annotated[str, Meta(max_length=1000)]
_Some = Annotated[tuple[str, ...], Meta(min_length=1, max_length=32)]
_Count = Annotated[int, Meta(ge=1)]


class _Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the bodies: unknown fields are errors."""


class CreateBody(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key is to be. `expires` is for how long it works, such as ``90d``."""

    department: _Words
    roles: _Some = ("caller",)
    label: _Words = ""
    scopes: _Some | None = None
    expires: str | None = None
    person: _Words | None = None
    application: _Words | None = None
    per_minute: _Count | None = None
    per_day: _Count | None = None
    reason: _Words | None = None


class RotateBody(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a key is rotated. `overlap` ``0`` ends every older secret at once; `expires` moves the key's end."""

    overlap: str = DEFAULT_OVERLAP
    expires: str | None = None
    reason: _Words | None = None


class RevokeBody(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a key is revoked."""

    reason: _Words | None = None


def keys_routes(runtime: Runtime, in_flight: InFlight) -> list[HTTPRouteHandler]:
    """Make the routes."""

    async def asked(request: HttpRequest[Any, Any, Any], kind: type[_T]) -> tuple[Caller, _T]:
        caller = await authenticate(request, runtime, "keys")
        with in_flight.place() as place:
            return caller, _read(await place.read(request), kind)

    def known_department(body: CreateBody) -> None:
        """Refuse a key that asks models for a department without a policy: its every request would fail."""
        trial = Caller(key="", department=body.department, roles=body.roles, scopes=body.scopes or ())
        if body.department == ALL or not may(trial, "ask"):
            return
        try:
            runtime.models(body.department)
        except Unavailable:
            raise InvalidRequest(
                f"there is no policy for the department {quote(body.department)}; name one that has a policy",
                param="department",
            ) from None

    @get("/keys")
    async def list_keys(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        await authenticate(request, runtime, "keys")
        return _answer({"keys": [key_fields(key) for key in await runtime.store.keys.list()]})

    @post("/keys", status_code=201)
    async def create_key(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller, body = await asked(request, CreateBody)
        known_department(body)
        key, secret = await runtime.store.keys.create(
            body.department,
            body.roles,
            body.label,
            scopes=body.scopes or (),
            lasts=_span(body.expires, "expires"),
            person=body.person,
            application=body.application,
            per_minute=body.per_minute,
            per_day=body.per_day,
            by=caller,
            why=body.reason,
        )
        return _answer({**key_fields(key), "key": secret}, 201)

    @post("/keys/{key_id:str}/rotate", status_code=200)
    async def rotate_key(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller, body = await asked(request, RotateBody)
        overlap = _span(body.overlap, "overlap") or dt.timedelta(0)
        lasts = _span(body.expires, "expires")
        key_id = str(request.path_params["key_id"])
        key, secret = await runtime.store.keys.rotate(key_id, overlap, lasts=lasts, by=caller, why=body.reason)
        return _answer({**key_fields(key), "key": secret})

    @post("/keys/{key_id:str}/revoke", status_code=200)
    async def revoke_key(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        caller, body = await asked(request, RevokeBody)
        key_id = str(request.path_params["key_id"])
        if not await runtime.store.keys.revoke(key_id, by=caller, why=body.reason):
            raise NotFound(f"there is no key {quote(key_id)} that is not revoked yet; `GET /keys` lists them")
        key = await runtime.store.keys.get(key_id)
        return _answer({} if key is None else key_fields(key))

    return [list_keys, create_key, rotate_key, revoke_key]


def key_fields(key: ApiKey) -> dict[str, Any]:
    """Give what is known of a key, as it is written on the wire: everything but the key."""
    return {
        "id": key.id,
        "department": key.department,
        "roles": key.roles,
        "scopes": key.scopes or None,
        "label": key.label,
        "person": key.person,
        "application": key.application,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "old_until": key.old_until,
        "revoked_at": key.revoked_at,
        "per_minute": key.per_minute,
        "per_day": key.per_day,
    }


def _answer(body: dict[str, Any], status: int = 200) -> Response[bytes]:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


def _read(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body or b"{}", type=kind, strict=True)
    except msgspec.ValidationError as exc:
        text, _, where = str(exc).partition(" - at `$")
        field = where.rstrip("`").lstrip(".")
        told = f"{text[:1].lower()}{text[1:]}"
        raise InvalidRequest(f"`{field}`: {told}" if field else told, param=field or None) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest('the body is not JSON; send an object such as `{"department": "radiology"}`') from None


def _span(text: str | None, field: str) -> dt.timedelta | None:
    if text is None or text.strip() in ("0", "0s"):
        return None
    try:
        return dt.timedelta(seconds=Duration.parse(text).seconds)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"`{field}`: expected a duration such as `24h` or `90d`", param=field) from None
