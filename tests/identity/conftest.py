"""Fixtures for identity: an identity provider that runs."""

from pathlib import Path

import pytest
from identity.kit import Clock, Idp, issuer

from gateway.identity.replay import MemorySeen
from gateway.identity.tokens import Tokens


@pytest.fixture
async def idp():
    async with Idp().serving() as running:
        yield running


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def tokens(idp, clock):
    """Checks the tokens of the identity provider, with the issuer's entry changed as asked."""
    made = []

    def make(**changes):
        made.append(Tokens((issuer(idp.url, **changes),), Path(), MemorySeen(), clock=clock))
        return made[-1]

    yield make
    for one in made:
        await one.close()
