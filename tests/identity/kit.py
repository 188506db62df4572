"""A real identity provider on a real socket: it signs tokens, and publishes its keys by HTTP."""

import asyncio
import base64
import contextlib
import json
import os
import time
import uuid

import jwt
import pytest
import redis
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.identity.model import Gives, Issuer, Rule

REDIS = os.environ.get("GATEWAY_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
AWAY = "redis://127.0.0.1:1/0"  # where no Redis is
AUDIENCE = "https://gateway.example"
NAME = "https://login.example/realms/hospital"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())
_OF = {"RSA": (RSAAlgorithm, "RS256"), "EC": (ECAlgorithm, "ES256"), "OKP": (OKPAlgorithm, "EdDSA")}

OFFICER = Rule(claim="groups", has="gw-radiology-officers", gives=Gives(department="radiology", roles=("officer",)))
CALLER = Rule(claim="groups", has="gw-radiology", gives=Gives(department="radiology", roles=("caller",)))


def redis_url():
    """The URL of a Redis that answers; without one, fail under CI and skip elsewhere."""
    try:
        with contextlib.closing(redis.Redis.from_url(REDIS, socket_timeout=2, socket_connect_timeout=2)) as client:
            client.ping()
    except (redis.RedisError, OSError) as exc:
        why = f"no Redis to test with ({type(exc).__name__}); name one in GATEWAY_TEST_REDIS_URL"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return REDIS


async def not_at_a_turn():
    """Wait where a minute is about to end: what is counted in memory is counted by minutes of the clock."""
    left = 60 - time.time() % 60
    if left < 2:
        await asyncio.sleep(left)


def jwk(private, kid, **more):
    """The public half of a key, as a JWK; a None in `more` takes a member away."""
    kind = {"RSAPrivateKey": "RSA", "ECPrivateKey": "EC", "Ed25519PrivateKey": "OKP"}
    names = [kind[base.__name__] for base in type(private).__mro__ if base.__name__ in kind]
    algorithm, alg = _OF[names[0] if names else _kty(private)]
    made = algorithm.to_jwk(private.public_key(), as_dict=True) | {"kid": kid, "use": "sig", "alg": alg} | more
    return {name: value for name, value in made.items() if value is not None}


def _kty(private):
    if isinstance(private, rsa.RSAPrivateKey):
        return "RSA"
    return "EC" if isinstance(private, ec.EllipticCurvePrivateKey) else "OKP"


class In:
    """So many seconds from when the token is made, and not from when the test was read."""

    def __init__(self, seconds):
        self.seconds = seconds


def claims(**changes):
    """Claims that are good now; a None in `changes` takes a claim away."""
    now = int(time.time())
    made = {
        "iss": NAME,
        "sub": "3f1c7d52-ada",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 300,
        "azp": "reading-room",
        "preferred_username": "ada",
        "groups": ["gw-radiology", "gw-radiology-officers"],
        "jti": uuid.uuid4().hex,
    } | changes
    return {
        name: now + value.seconds if isinstance(value, In) else value
        for name, value in made.items()
        if value is not None
    }


def sign(payload, key=EC, algorithm="ES256", kid="ec", **header):
    """A token; `header` adds to its header, None takes away."""
    headers = {"kid": kid, "typ": "at+jwt"} | header
    given = {name: value for name, value in headers.items() if value is not None}
    # Signed as bytes: the library would not sign some of the claims that an attacker would.
    return jwt.PyJWS().encode(json.dumps(payload).encode(), key, algorithm=algorithm, headers=given)


def raw(header, payload, signature=b""):
    """A token of any header and payload, with any signature."""

    def part(value):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    return f"{part(header)}.{part(payload)}.{part(signature)}"


def issuer(url=None, **changes):
    """The entry of the identity provider in the identity file."""
    given = {
        "id": "hospital",
        "issuer": NAME,
        "audience": AUDIENCE,
        "jwks_url": url,
        "rules": (OFFICER, CALLER),
        "person": "preferred_username",
    }
    return Issuer(**given | changes)


class Idp:
    """Publishes `keys`; `answer` replaces the answer, `hits` counts the times it was asked."""

    def __init__(self):
        self.keys = [jwk(RSA, "rsa"), jwk(EC, "ec"), jwk(ED, "ed")]
        self.answer = None
        self.hits = 0
        self.asked = asyncio.Event()
        self.paths = []

    async def _jwks(self, request):
        self.hits += 1
        self.asked.set()
        self.paths.append(request.path)
        if self.answer is not None:
            return await self.answer(request)
        return web.json_response({"keys": self.keys})

    @contextlib.asynccontextmanager
    async def serving(self):
        app = web.Application()
        app.router.add_get("/{path:.*}", self._jwks)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/jwks"
        try:
            yield self
        finally:
            await runner.cleanup()


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now
