"""`create_app(runtime)`: the one place where the HTTP application is made."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from litestar import Litestar
from litestar.types import Message, Scope

from gateway.web.auth import limit_headers
from gateway.web.body import InFlight
from gateway.web.console import Console, headers_of, templates
from gateway.web.content import content_routes
from gateway.web.decisions import decision_routes
from gateway.web.exports import export_route
from gateway.web.health import health_routes
from gateway.web.keys import keys_routes
from gateway.web.log import log_routes
from gateway.web.openai.batches import batch_routes
from gateway.web.openai.chat import chat_route
from gateway.web.openai.files import file_routes
from gateway.web.openai.models import models_routes
from gateway.web.openai.moderations import moderations_route
from gateway.web.problems import answer_exception
from gateway.web.pseudonyms import pseudonyms_route
from gateway.web.reviews import review_routes

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

DRAIN_SECONDS = 10.0
"""How long a stop waits for decisions whose callers have gone, in seconds."""

_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


async def _add_headers(message: Message, scope: Scope) -> None:
    """Send the security headers with every answer, errors included."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], *(headers_of(scope["path"]) or _HEADERS), *limit_headers(scope)]


def create_app(runtime: Runtime) -> Litestar:
    """Make the application of `runtime`, which is closed when the application stops.

    Litestar logs nothing: its loggers know exceptions with their messages, and those may quote a prompt. Who serves the
    application sets `stopping` in its state, which tells whether the server is about to end: streams end then.
    """
    console = Console(runtime)
    in_flight = InFlight(runtime.settings.in_flight, runtime.settings.max_body_bytes)

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await in_flight.drain(DRAIN_SECONDS)
            await console.close()
            await runtime.close()

    return Litestar(
        route_handlers=[
            chat_route(runtime, in_flight),
            moderations_route(runtime, in_flight),
            *models_routes(runtime),
            *file_routes(runtime),
            *batch_routes(runtime),
            *decision_routes(runtime),
            *review_routes(runtime, in_flight),
            *keys_routes(runtime, in_flight),
            *content_routes(runtime, in_flight),
            *log_routes(runtime),
            *health_routes(runtime),
            export_route(runtime),
            pseudonyms_route(runtime),
            console.router,
        ],
        lifespan=[lifespan],
        exception_handlers={Exception: answer_exception},
        before_send=[_add_headers],
        template_config=templates(),
        request_max_body_size=runtime.settings.max_body_bytes,
        debug=False,  # given, so that no environment variable of Litestar turns it on
        pdb_on_exception=False,
        logging_config=None,
        openapi_config=None,
    )
