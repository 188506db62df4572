"""Bearer tokens: what is let in, and each way in that is closed. A real provider signs and publishes."""

import asyncio
import hashlib
import hmac
import json
import logging
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from identity.kit import AUDIENCE, EC, ED, NAME, OTHER, RSA, Idp, In, claims, issuer, jwk, raw, sign

from gateway.errors import NotAuthenticated, NotPermitted, RequestError, Unavailable
from gateway.identity.replay import MemorySeen
from gateway.identity.tokens import Tokens
from gateway.policy.model import Duration
from gateway.records import Caller

SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")])
async def test_a_good_token_says_who_calls(tokens, key, algorithm, kid):
    caller = await tokens().authenticate(sign(claims(), key, algorithm, kid))
    assert caller == Caller(
        key="oidc:hospital:3f1c7d52-ada",
        department="radiology",
        roles=("officer", "caller"),
        person="ada",
        application="reading-room",
        via="oidc",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["account", AUDIENCE]},
        {"exp": In(-20), "iat": In(-300)},
        {"nbf": In(20)},
        {"iat": In(20)},
    ],
    ids=["one audience of several", "expired within the leeway", "nbf within the leeway", "iat within the leeway"],
)
async def test_what_is_still_good(tokens, changes):
    assert (await tokens().authenticate(sign(claims(**changes)))).person == "ada"


BAD_CLAIMS = {
    "another issuer": {"iss": "https://evil.example"},
    "the issuer with a slash more": {"iss": NAME + "/"},
    "the issuer in a list": {"iss": [NAME]},
    "no issuer": {"iss": None},
    "another audience": {"aud": "https://other.example"},
    "no audience": {"aud": None},
    "an audience that begins like ours": {"aud": AUDIENCE + ".evil.example"},
    "expired": {"exp": In(-120), "iat": In(-600)},
    "no end": {"exp": None},
    "an end that is text": {"exp": "9999999999"},
    "an end that is true": {"exp": True},
    "an end without end": {"exp": float("inf")},
    "an end that is no number": {"exp": float("nan")},
    "not yet": {"nbf": In(3600)},
    "issued in the future": {"iat": In(3600)},
    "no time of issue": {"iat": None},
    "issued too long ago": {"iat": In(-2 * 86400)},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is a number": {"sub": 7},
    "a subject with a line break": {"sub": "a\nb"},
    "no name of the person": {"preferred_username": None},
    "a name that is a list": {"preferred_username": ["ada"]},
    "a name without end": {"preferred_username": "a" * 201},
    "an application that is a list": {"azp": ["reading-room"]},
    "an id token of Keycloak": {"typ": "ID"},
    "a refresh token of Keycloak": {"typ": "Refresh"},
    "bound to a key": {"cnf": {"jkt": "x"}},
}


@pytest.mark.parametrize("changes", BAD_CLAIMS.values(), ids=BAD_CLAIMS)
async def test_a_token_with_wrong_claims_lets_nobody_in(tokens, changes):
    with pytest.raises(NotAuthenticated):
        await tokens().authenticate(sign(claims(**changes)))


def hmac_with_the_public_key():
    """Alg confusion: the public key, which everybody has, is used as the secret of an HMAC."""
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    unsigned = raw({"alg": "HS256", "typ": "JWT", "kid": "rsa"}, claims()).rpartition(".")[0]
    mac = hmac.digest(pem, unsigned.encode(), hashlib.sha256)
    return f"{unsigned}.{raw(b'', b'', mac).rpartition('.')[2]}"


def cut(token, part, text):
    parts = token.split(".")
    parts[part] = text
    return ".".join(parts)


ATTACKS = {
    "alg none": lambda: raw({"alg": "none", "typ": "JWT", "kid": "ec"}, claims()),
    "alg None with a signature": lambda: raw({"alg": "None", "typ": "JWT", "kid": "ec"}, claims(), b"x"),
    "no alg": lambda: raw({"typ": "JWT", "kid": "ec"}, claims(), b"x"),
    "alg is a list": lambda: raw({"alg": ["ES256"], "typ": "JWT", "kid": "ec"}, claims(), b"x"),
    "HS256 with the public key": hmac_with_the_public_key,
    "HS256 with a guessed secret": lambda: sign(claims(), "secret" * 8, "HS256", "rsa"),
    "an algorithm that the issuer does not use": lambda: sign(claims(), RSA, "RS512", "rsa"),
    "the key of another": lambda: sign(claims(), OTHER),
    "the kid of another type of key": lambda: sign(claims(), EC, "ES256", "rsa"),
    "the algorithm of another key": lambda: sign(claims(), RSA, "RS256", "ec"),
    "an unknown kid": lambda: sign(claims(), kid="nobody"),
    "a kid that is a path": lambda: sign(claims(), kid="../../etc/passwd"),
    "a kid that is SQL": lambda: sign(claims(), kid="' OR 1=1 --"),
    "a kid that is a number": lambda: raw({"alg": "ES256", "typ": "JWT", "kid": 7}, claims(), b"x" * 64),
    "an extension that must be understood": lambda: sign(claims(), crit=["exp"], exp=1),
    "an extension that the library understands": lambda: sign(claims(), crit=["b64"], b64=True),
    "compressed": lambda: sign(claims(), zip="DEF"),
    "a proof of possession": lambda: sign(claims(), typ="dpop+jwt"),
    "a logout token": lambda: sign(claims(), typ="logout+jwt"),
    "a type that is a list": lambda: sign(claims(), typ=["JWT"]),
    "no signature": lambda: cut(sign(claims()), 2, ""),
    "another payload": lambda: cut(sign(claims()), 1, raw(b"", claims(sub="root")).split(".")[1]),
    "another header": lambda: cut(
        sign(claims()), 0, raw({"alg": "ES256", "kid": "ec", "typ": "JWT"}, b"").split(".")[0]
    ),
    "a signature of zeros": lambda: raw({"alg": "ES256", "typ": "JWT", "kid": "ec"}, claims(), bytes(64)),
    "its own key in the header": lambda: sign(claims(), OTHER, jwk=jwk(OTHER, "ec")),
    "over 8 KiB": lambda: sign(claims(filler="x" * 8192)),
    "two parts": lambda: "a.b",
    "four parts": lambda: sign(claims()) + ".x",
    "an encrypted token": lambda: sign(claims()) + ".x.y",
    "no JSON": lambda: raw(b"{", b"{", b"x"),
    "a payload that is a list": lambda: raw({"alg": "ES256", "kid": "ec"}, [1], b"x"),
    "a deep payload": lambda: raw({"alg": "ES256", "kid": "ec"}, b"[" * 3000 + b"]" * 3000, b"x"),
    "a number without end": lambda: raw({"alg": "ES256", "kid": "ec"}, b'{"exp":' + b"9" * 5000 + b"}", b"x"),
    "empty": lambda: "..",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_a_forged_token_lets_nobody_in(tokens, caplog, attack):
    token = attack()
    with caplog.at_level(logging.DEBUG), pytest.raises(NotAuthenticated) as caught:
        await tokens().authenticate(token)
    told = caplog.text + str(caught.value)
    assert all(len(part) < 12 or part not in told for part in token.split(".")), "no part of a token is told or logged"
    assert "3f1c7d52" not in told and "preferred" not in told


@pytest.mark.parametrize("header", ["jku", "x5u"])
async def test_headers_that_point_to_keys_are_not_followed(idp, tokens, header):
    async with Idp().serving() as evil:
        evil.keys = [jwk(OTHER, "ec")]
        with pytest.raises(NotAuthenticated):
            await tokens().authenticate(sign(claims(), OTHER, **{header: evil.url}))
        assert (await tokens().authenticate(sign(claims(), **{header: evil.url}))).person == "ada"
        assert evil.hits == 0


BAD_KEYS = {
    "a secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "ec"},
    "for encryption": jwk(EC, "ec", use="enc"),
    "not for verifying": jwk(EC, "ec", key_ops=["encrypt"]),
    "for another algorithm": jwk(EC, "ec", alg="ES384"),
    "of another curve": jwk(EC, "ec", crv="P-384"),
    "private": jwk(EC, "ec", d="AAAA"),
    "no numbers": {"kty": "EC", "crv": "P-256", "kid": "ec"},
    "not on the curve": jwk(EC, "ec", x="AAAA"),
    "no object": 7,
}


@pytest.mark.parametrize("bad", BAD_KEYS.values(), ids=BAD_KEYS)
async def test_keys_that_are_not_for_checking_tokens_check_none(idp, tokens, bad):
    idp.keys = [bad, jwk(RSA, "rsa")]
    checks = tokens()
    with pytest.raises(NotAuthenticated):
        await checks.authenticate(sign(claims()))
    assert (await checks.authenticate(sign(claims(), RSA, "RS256", "rsa"))).person == "ada"


async def test_a_short_rsa_key_is_too_weak(idp, tokens):
    idp.keys = [jwk(SMALL, "small")]
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = sign(claims(), SMALL, "RS256", "small")
    with pytest.raises(NotAuthenticated):
        await tokens().authenticate(token)


async def test_one_id_for_two_keys_is_no_id(idp, tokens):
    idp.keys = [jwk(EC, "ec"), jwk(OTHER, "ec")]
    for key in (EC, OTHER):
        with pytest.raises(NotAuthenticated):
            await tokens().authenticate(sign(claims(), key))


async def test_without_an_id_the_only_key_counts(idp, tokens):
    token = sign(claims(), kid=None)
    assert (await tokens().authenticate(token)).person == "ada"
    idp.keys = [jwk(EC, "ec"), jwk(OTHER, "other")]
    with pytest.raises(NotAuthenticated):
        await tokens().authenticate(token)


async def test_the_keys_of_one_issuer_check_no_tokens_of_another(idp):
    """A small issuer, perhaps a vendor's, must not be able to sign for the hospital's."""
    async with Idp().serving() as vendor:
        vendor.keys = [jwk(OTHER, "ec")]
        both = (issuer(idp.url), issuer(vendor.url, id="vendor", issuer="https://vendor.example"))
        checks = Tokens(both, Path(), MemorySeen())
        try:
            with pytest.raises(NotAuthenticated):
                await checks.authenticate(sign(claims(), OTHER))
            caller = await checks.authenticate(sign(claims(iss="https://vendor.example"), OTHER))
            assert caller.key == "oidc:vendor:3f1c7d52-ada"
            with pytest.raises(NotAuthenticated):
                await checks.authenticate(sign(claims(iss="https://vendor.example")))
        finally:
            await checks.close()


async def test_no_rule_no_role(tokens):
    with pytest.raises(NotPermitted, match="no rule"):
        await tokens().authenticate(sign(claims(groups=["staff"])))
    with pytest.raises(NotPermitted):
        await tokens().authenticate(sign(claims(groups=None)))


async def test_what_is_told_of_a_late_token_is_told_only_after_its_signature(tokens):
    late = claims(exp=In(-600), iat=In(-900))
    with pytest.raises(NotAuthenticated, match="has expired") as caught:
        await tokens().authenticate(sign(late))
    assert caught.value.code == "expired_token"
    with pytest.raises(NotAuthenticated, match="not one that this gateway takes") as caught:
        await tokens().authenticate(sign(late, OTHER))
    assert caught.value.code == "invalid_token"


async def test_an_old_token_is_refused_whatever_its_end(tokens):
    token = sign(claims(iat=In(-900), exp=In(86400)))
    assert (await tokens().authenticate(token)).person == "ada"
    with pytest.raises(NotAuthenticated, match="too old"):
        await tokens(max_age=Duration(seconds=600.0)).authenticate(token)


async def test_only_tokens_of_known_applications_where_they_are_named(tokens):
    checks = tokens(clients=("pacs",))
    assert (await checks.authenticate(sign(claims(azp="pacs")))).application == "pacs"
    assert (await checks.authenticate(sign(claims(azp=None, client_id="pacs")))).application == "pacs"
    for other in ({"azp": "reading-room"}, {"azp": None}, {"azp": "other", "client_id": "pacs"}):
        with pytest.raises(NotAuthenticated, match="application"):
            await checks.authenticate(sign(claims(**other)))


async def test_an_address_counts_where_it_is_verified(tokens):
    checks = tokens(person="email")
    good = {"email": "ada@hospital.example", "email_verified": True}
    assert (await checks.authenticate(sign(claims(**good)))).person == "ada@hospital.example"
    for missing in ({"email_verified": None}, {"email_verified": False}, {"email_verified": "true"}, {"email": None}):
        with pytest.raises(NotAuthenticated, match="email"):
            await checks.authenticate(sign(claims(**good | missing)))
    weak = tokens(person="email", allow_unverified_email=True)
    assert (await weak.authenticate(sign(claims(**good | {"email_verified": None})))).person == "ada@hospital.example"


async def test_a_bearer_token_may_otherwise_be_used_until_it_ends(tokens):
    checks, token = tokens(), sign(claims())
    assert await checks.authenticate(token) == await checks.authenticate(token)


_tokenish = st.one_of(
    st.text(max_size=200),
    st.lists(st.text("abcXYZ019-_=", max_size=60), min_size=1, max_size=6).map(".".join),
    st.builds(
        lambda header, payload: raw(header, payload, b"x" * 64),
        st.dictionaries(
            st.sampled_from(["alg", "kid", "typ", "crit", "b64"]),
            st.one_of(st.none(), st.text(max_size=8), st.integers()),
        ),
        st.dictionaries(
            st.sampled_from(["iss", "sub", "exp", "aud"]), st.one_of(st.none(), st.just(NAME), st.integers())
        ),
    ),
)


@settings(max_examples=150, deadline=None)
@given(token=_tokenish)
def test_no_made_up_token_does_more_than_be_refused(token):
    async def ask():
        checks = Tokens((issuer(jwks_file="keys.json"),), Path("/nowhere"), MemorySeen())
        try:
            await checks.authenticate(token)
        finally:
            await checks.close()

    with pytest.raises((RequestError, Unavailable)):
        asyncio.run(ask())


async def test_keys_from_a_file(tmp_path):
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [jwk(EC, "ec")]}))
    checks = Tokens((issuer(jwks_file="keys.json"),), tmp_path, MemorySeen())
    assert (await checks.authenticate(sign(claims()))).person == "ada"
    await checks.close()
