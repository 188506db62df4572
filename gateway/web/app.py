"""`create_app(runtime)`: the one place where the HTTP application is made."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from litestar import Litestar
from litestar.types import Message, Scope

from gateway.web.body import InFlight
from gateway.web.decisions import decision_route
from gateway.web.health import health_routes
from gateway.web.openai.chat import chat_route
from gateway.web.openai.models import models_routes
from gateway.web.openai.moderations import moderations_route
from gateway.web.problems import answer_exception

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

DRAIN_SECONDS = 10.0
"""How long a stop waits for decisions whose callers have gone, in seconds."""

_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


async def _add_headers(message: Message, scope: Scope) -> None:
    """Send the security headers with every answer, errors included."""
    del scope
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], *_HEADERS]


def create_app(runtime: Runtime) -> Litestar:
    """Make the application of `runtime`, which is closed when the application stops.

    Litestar logs nothing: its loggers know exceptions with their messages, and those may quote a prompt.
    """
    in_flight = InFlight(runtime.settings.in_flight, runtime.settings.max_body_bytes)

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await in_flight.drain(DRAIN_SECONDS)
            await runtime.close()

    return Litestar(
        route_handlers=[
            chat_route(runtime, in_flight),
            moderations_route(runtime, in_flight),
            *models_routes(runtime),
            decision_route(runtime),
            *health_routes(runtime),
        ],
        lifespan=[lifespan],
        exception_handlers={Exception: answer_exception},
        before_send=[_add_headers],
        request_max_body_size=runtime.settings.max_body_bytes,
        debug=False,  # given, so that no environment variable of Litestar turns it on
        pdb_on_exception=False,
        logging_config=None,
        openapi_config=None,
    )
