"""The integrity of the log: its tree, checkpoints, keys and sinks, and a verification with its progress."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from litestar import get, post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.errors import Conflict
from gateway.store.filters import Filter
from gateway.store.tree import Delivered
from gateway.web.console.decision import fresh
from gateway.web.console.guard import sent_form, signed_in
from gateway.web.console.templating import page, see_other
from gateway.web.console.verifying import Verifying

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

PATH = "/console/integrity"


def integrity_routes(runtime: Runtime, verifying: Verifying) -> list[HTTPRouteHandler]:
    """Make the routes."""

    @get("/integrity")
    async def integrity(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session = await signed_in(request, runtime, "verify")
        await fresh(runtime)
        store = runtime.store
        looked = await store.search.page(Filter(kinds=("access.v1",), action=("verify",)), limit=5)
        return page(
            "integrity", session, run=verifying.last, head=await store.tree.checkpoint(),
            size=await store.tree.size(), count=await store.decisions.count(), keys=await store.tree.keys(),
            trouble=store.sequencer.trouble or store.signer.trouble, sinks=await _sinks(runtime),
            verified=[one.stored.record for one in looked.rows],
        )  # fmt: skip

    @get("/integrity/verification")
    async def verification(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session = await signed_in(request, runtime, "verify")
        return page("verification", session, run=verifying.last)

    @post("/integrity/verify", status_code=200)
    async def verify(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session, _ = await sent_form(request, runtime, "verify")
        with contextlib.suppress(Conflict):  # what runs is shown
            await verifying.start(session.caller, PATH)
        return see_other(f"{PATH}#verification")

    return [integrity, verification, verify]


async def _sinks(runtime: Runtime) -> list[tuple[str, Delivered]]:
    """List the sinks that are set, and others that were given checkpoints once, each with how far it is."""
    known = {one.name: one for one in await runtime.store.tree.delivered()}
    never = {
        sink.name: Delivered(name=sink.name, size=0, at=None, trouble=None) for sink in runtime.store.deliveries.sinks
    }
    told = {sink.name: sink.told for sink in runtime.store.deliveries.sinks}
    return [(told.get(name, f"{name}, which is not set now"), one) for name, one in (never | known).items()]
