"""One gateway for all tests of commands about batches, and terminals that are closed in any case."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cli.kit import Gateway
from cli.terminal import Terminal


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = Gateway(tmp_path_factory.mktemp("gateway"))
    yield made
    made.close()


@pytest.fixture
def watching(gateway: Gateway) -> Iterator[Callable[..., Terminal]]:
    """Watch a batch in a terminal."""
    running: list[Terminal] = []

    def start(batch: str, **more: Any) -> Terminal:
        running.append(gateway.watch(batch, **more))
        return running[-1]

    yield start
    for each in running:
        each.close()
