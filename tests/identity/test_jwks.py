"""Keys of an issuer: asked for rarely, kept for a while, and never longer."""

import asyncio
import contextlib

import pytest
from aiohttp import web
from identity.kit import EC, OTHER, RSA, claims, issuer, jwk, sign

from gateway.errors import NotAuthenticated, Unavailable
from gateway.identity import jwks
from gateway.identity.jwks import KeySet, file_fetch, read_keys


async def down(request):
    raise web.HTTPServiceUnavailable


async def test_known_keys_are_not_asked_for_again(idp, tokens):
    checks = tokens()
    for _ in range(5):
        await checks.authenticate(sign(claims()))
        await checks.authenticate(sign(claims(), RSA, "RS256", "rsa"))
    assert idp.hits == 1


async def test_all_who_wait_share_one_fetch(idp, tokens):
    gate = asyncio.Event()

    async def late(request):
        await gate.wait()
        return web.json_response({"keys": idp.keys})

    idp.answer = late
    checks = tokens()
    asking = [asyncio.create_task(checks.authenticate(sign(claims()))) for _ in range(20)]
    await idp.asked.wait()
    gate.set()
    assert {caller.person for caller in await asyncio.gather(*asking)} == {"ada"}
    assert idp.hits == 1


async def test_who_goes_away_takes_the_fetch_from_nobody(idp, tokens):
    gate = asyncio.Event()

    async def late(request):
        await gate.wait()
        return web.json_response({"keys": idp.keys})

    idp.answer = late
    checks = tokens()
    first = asyncio.create_task(checks.authenticate(sign(claims())))
    second = asyncio.create_task(checks.authenticate(sign(claims())))
    await idp.asked.wait()
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    gate.set()
    assert (await second).person == "ada"


async def test_a_new_key_is_found_and_made_up_ids_ask_no_more_than_that(idp, tokens, clock):
    checks = tokens()
    await checks.authenticate(sign(claims()))
    idp.keys.append(jwk(OTHER, "new"))
    clock.now += 31  # longer than the cooldown
    assert (await checks.authenticate(sign(claims(), OTHER, kid="new"))).person == "ada"
    assert idp.hits == 2
    for number in range(50):
        with pytest.raises(NotAuthenticated):
            await checks.authenticate(sign(claims(), OTHER, kid=f"made-up-{number}"))
    assert idp.hits == 2
    clock.now += 31
    many = (checks.authenticate(sign(claims(), OTHER, kid=f"made-up-{number}")) for number in range(50))
    results = await asyncio.gather(*many, return_exceptions=True)
    assert {type(result) for result in results} == {NotAuthenticated}
    assert idp.hits == 3


async def test_a_key_that_was_withdrawn_ends_with_the_refresh(idp, tokens, clock):
    checks = tokens()
    await checks.authenticate(sign(claims()))
    idp.keys = [jwk(RSA, "rsa")]
    clock.now += 601
    await checks.authenticate(sign(claims(), RSA, "RS256", "rsa"))  # this one asks anew, and does not wait for it

    async def until_it_ends():
        for _ in range(1000):
            await checks.authenticate(sign(claims()))
            await asyncio.sleep(0.01)

    with pytest.raises(NotAuthenticated):
        await until_it_ends()
    assert idp.hits == 2


async def test_the_keys_of_before_hold_on_for_their_time_and_no_longer(idp, tokens, clock):
    checks = tokens()
    await checks.authenticate(sign(claims()))
    idp.answer = down
    clock.now += 43200
    assert (await checks.authenticate(sign(claims()))).person == "ada"
    with pytest.raises(Unavailable, match="can not be had"):  # perhaps a new key, perhaps none: nobody can tell
        await checks.authenticate(sign(claims(), OTHER, kid="new"))
    clock.now += 2
    with pytest.raises(Unavailable, match="can not be had"):
        await checks.authenticate(sign(claims()))
    idp.answer = None
    clock.now += 5  # after a failure it is asked again sooner
    assert (await checks.authenticate(sign(claims()))).person == "ada"


async def test_an_issuer_that_never_answered_lets_nobody_in_and_is_asked_in_peace(idp, tokens, clock):
    idp.answer = down
    checks = tokens()
    for _ in range(10):
        with pytest.raises(Unavailable):
            await checks.authenticate(sign(claims()))
    assert idp.hits == 1
    clock.now += 5
    with pytest.raises(Unavailable):
        await checks.authenticate(sign(claims()))
    assert idp.hits == 2


async def huge(request):
    return web.Response(body=b'{"keys":[' + b" " * (300 * 1024) + b"]}")


async def moved(request):
    if request.path != "/elsewhere":
        raise web.HTTPFound("/elsewhere")
    return web.json_response({"keys": [jwk(EC, "ec")]})


async def packed(request):
    answer = web.json_response({"keys": [jwk(EC, "ec")]})
    answer.enable_compression(force=web.ContentCoding.gzip)
    return answer


async def nothing(request):
    return web.json_response({"keys": []})


async def page(request):
    return web.Response(text="<html>sign in</html>", content_type="text/html")


async def bytes_(request):
    return web.Response(body=b"\xff\xfe\x00")


@pytest.mark.parametrize("answer", [huge, moved, packed, nothing, page, bytes_], ids=lambda f: f.__name__)
async def test_an_answer_that_is_no_jwks_is_none(idp, tokens, answer):
    idp.answer = answer
    with pytest.raises(Unavailable):
        await tokens().authenticate(sign(claims()))
    assert "/elsewhere" not in idp.paths


async def test_an_issuer_that_dribbles_is_not_waited_for(idp, tokens, monkeypatch):
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.2)

    async def dribble(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await answer.write(b" ")
                await asyncio.sleep(0.02)
        return answer

    idp.answer = dribble
    with pytest.raises(Unavailable):
        await asyncio.wait_for(tokens().authenticate(sign(claims())), 5)


async def test_a_bad_answer_does_not_displace_good_keys(idp, tokens, clock):
    checks = tokens()
    await checks.authenticate(sign(claims()))
    idp.answer = nothing
    clock.now += 700
    for _ in range(1000):
        assert (await checks.authenticate(sign(claims()))).person == "ada"
        await asyncio.sleep(0.01)
        if idp.hits == 2:
            break
    await asyncio.sleep(0.1)
    assert (await checks.authenticate(sign(claims()))).person == "ada"
    assert idp.hits == 2


async def test_a_file_that_grew_too_large_is_none(tmp_path):
    path = tmp_path / "keys.json"
    path.write_bytes(b" " * (300 * 1024))
    with pytest.raises(ValueError, match="larger"):
        await file_fetch(path)()
    keys = KeySet(issuer(jwks_file="keys.json"), file_fetch(tmp_path / "gone.json"))
    with pytest.raises(Unavailable):
        await keys.find("ec", "ES256")


def test_one_bad_key_does_not_spoil_the_others():
    data = b'{"keys": [7, {"kty": 1}, {"kty": "oct", "k": "AAAA"}, {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}'
    assert [key.kty for key in read_keys(data)] == ["OKP"]
    for bad in (b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": []}', b"\xff"):
        with pytest.raises(ValueError, match=r"JWKS|usable"):
            read_keys(bad)
    assert len(read_keys(b'{"keys": [' + b",".join([b'{"kty": "RSA"}'] * 500) + b"]}")) == 100
