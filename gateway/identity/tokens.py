"""Bearer tokens of identity providers (OpenID Connect, RFC 9068), checked by the rules of RFC 8725.

The order is: shape, issuer, algorithm, key, signature, and only then claims. Nothing that a token says chooses how it
is checked: the issuer's entry in the identity file names algorithms and keys, and headers that point to keys (``jku``,
``x5u``, ``jwk``, ``x5c``) are never read. Tokens and their claims never reach a log; a refusal logs a short code.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jwt

from gateway.errors import NotAuthenticated
from gateway.identity.jwks import KeySet, UrlFetcher, file_fetch
from gateway.identity.mapping import caller_of
from gateway.identity.model import ALGORITHMS, Issuer
from gateway.identity.replay import Seen
from gateway.records import Caller

LONGEST = 8192
"""Characters of a token."""

_REQUIRED = ["iss", "sub", "aud", "exp", "iat"]
_TIMES = ("exp", "iat", "nbf")
_OTHER_KINDS = frozenset({"id", "refresh", "offline", "logout"})
_log = logging.getLogger("gateway.identity")

_UNTRUSTED = (
    "the token is not one that this gateway takes; send an access token of an issuer that it trusts, for its audience"
)


def is_token(text: str) -> bool:
    """Tell whether `text` looks like a signed token and not like an API key."""
    return text.count(".") == 2


class Tokens:
    """Checks the tokens of `issuers`. `folder` is where relative `jwks_file` are; `seen` remembers single-use tokens.

    `clock` is monotonic, in seconds, and tells the age of keys.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        folder: Path,
        seen: Seen,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetcher = UrlFetcher()
        self._seen = seen
        self._issuers: dict[str, tuple[Issuer, KeySet]] = {}
        for issuer in issuers:
            fetch = (
                self._fetcher.of(issuer.jwks_url)
                if issuer.jwks_url is not None
                else file_fetch(folder / str(issuer.jwks_file))
            )
            self._issuers[issuer.issuer] = (issuer, KeySet(issuer, fetch, clock=clock))

    async def authenticate(self, token: str) -> Caller:
        """Tell who holds `token`.

        Raises NotAuthenticated where it is not good, NotPermitted where it is and gives no role, and Unavailable where
        it can not be checked now.
        """
        if len(token) > LONGEST or not is_token(token):
            raise _refused("shape")
        try:
            unchecked = jwt.decode_complete(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refused("shape") from None
        issuer, keys = self._issuer_of(unchecked["payload"])
        algorithm, kid = _check_header(unchecked["header"], issuer)
        key = await keys.find(kid, algorithm)
        if key is None:
            raise _refused("key", issuer)
        claims = _checked(token, key, algorithm, issuer)
        caller = caller_of(claims, issuer)
        if issuer.single_use:
            until = float(claims["exp"]) + issuer.leeway.seconds
            jti = claims.get("jti")
            if not isinstance(jti, str) or not jti:
                raise _refused("jti", issuer)
            if not await self._seen.first(issuer.id, jti, issued=float(claims["iat"]), until=until):
                raise _refused("replayed", issuer, "the token was used before, and is good for one use; get a new one")
        return caller

    async def close(self) -> None:
        """Close what was opened."""
        for _, keys in self._issuers.values():
            await keys.close()
        await self._fetcher.close()
        await self._seen.close()

    def _issuer_of(self, payload: Any) -> tuple[Issuer, KeySet]:
        name = payload.get("iss")
        found = self._issuers.get(name) if isinstance(name, str) else None
        if found is None:
            raise _refused("issuer")
        return found


def _check_header(header: dict[str, Any], issuer: Issuer) -> tuple[str, str | None]:
    """Give the algorithm and the key's id of a token that may be looked at further."""
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or algorithm not in issuer.algorithms:
        raise _refused("algorithm", issuer)
    # Extensions that must be understood: none is, RFC 7797 (`b64`), which the library knows, included.
    if "crit" in header or "b64" in header or "zip" in header:
        raise _refused("extension", issuer)
    types = {one.lower().removeprefix("application/") for one in issuer.types}
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in types:
        raise _refused("type", issuer)
    if kid is not None and not isinstance(kid, str):
        raise _refused("key", issuer)
    return algorithm, kid


def _checked(token: str, key: jwt.PyJWK, algorithm: str, issuer: Issuer) -> dict[str, Any]:
    """Give the claims of a token whose signature, issuer, audience and times are right."""
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=issuer.audiences,
            issuer=issuer.issuer,
            leeway=issuer.leeway.seconds,
            options={"require": _REQUIRED, "enforce_minimum_key_length": True},
        )
    except jwt.ExpiredSignatureError:
        raise _refused("expired", issuer, "the token has expired; get a new one", "expired_token") from None
    except jwt.ImmatureSignatureError:
        raise _refused("early", issuer, "the token is not good yet; compare the clocks") from None
    except jwt.InvalidAudienceError:
        raise _refused("audience", issuer) from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise _refused("signature-or-claims", issuer) from None
    for name in _TIMES:
        if name in claims and (type(claims[name]) not in (int, float)):
            raise _refused("times", issuer)
    if claims["iat"] < time.time() - issuer.max_age.seconds - issuer.leeway.seconds:
        raise _refused("age", issuer, "the token is too old for this gateway; get a new one", "expired_token")
    if "cnf" in claims:  # RFC 7800: it is good only with proof of a key, which a bearer does not give
        raise _refused("bound", issuer, "the token is bound to a key; send one that is a plain bearer token")
    kind = claims.get("typ")
    if isinstance(kind, str) and kind.lower() in _OTHER_KINDS:
        raise _refused("type", issuer)
    return claims


def _refused(
    cause: str, issuer: Issuer | None = None, message: str = _UNTRUSTED, code: str = "invalid_token"
) -> NotAuthenticated:
    _log.info("a bearer token was refused: %s (issuer %s)", cause, "unknown" if issuer is None else issuer.id)
    return NotAuthenticated(message, code=code)
