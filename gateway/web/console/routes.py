"""All routes of the console under one path, with one way of telling what goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Router, get
from litestar.connection import Request as HttpRequest
from litestar.response import Response

from gateway.errors import NotFound
from gateway.web.console.assets import asset_route
from gateway.web.console.decision import decision_routes
from gateway.web.console.decisions import decisions_routes
from gateway.web.console.errors import answer_error
from gateway.web.console.export import export_routes
from gateway.web.console.guard import FORM_BYTES, signed_in
from gateway.web.console.integrity import integrity_routes
from gateway.web.console.reviews import reviews_routes
from gateway.web.console.sign_in import sign_in_routes
from gateway.web.console.verifying import Verifying

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime


class Console:
    """The console over a runtime: its `router`, and what it has running, which `close` stops."""

    def __init__(self, runtime: Runtime) -> None:
        self._verifying = Verifying(runtime)

        @get("/{path:path}")
        async def unknown(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
            await signed_in(request, runtime)
            raise NotFound("there is no such page")

        self.router = Router(
            path="/console",
            route_handlers=[
                *sign_in_routes(runtime),
                *decisions_routes(runtime),
                *decision_routes(runtime),
                *reviews_routes(runtime),
                *export_routes(runtime),
                *integrity_routes(runtime, self._verifying),
                asset_route(),
                unknown,
            ],
            exception_handlers={Exception: answer_error},
            request_max_body_size=2 * FORM_BYTES,
        )

    async def close(self) -> None:
        """Stop what runs beside the requests; to be called before the store closes."""
        await self._verifying.close()
