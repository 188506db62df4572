"""`gateway serve` and `gateway migrate`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import click
import msgspec

from gateway.cli.logs import configure_logs
from gateway.cli.output import settings_options
from gateway.errors import ConfigurationError, Unavailable
from gateway.settings import Settings, read_settings

_log = logging.getLogger("gateway.serve")

_BUSY, _IDLE = 2.0, 10.0  # seconds after which it is said again that as many requests are answered, or none


def _socket(settings: Settings) -> socket.socket:
    """Bind before the models load, so that a taken port is told at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as exc:
        listener.close()
        raise ConfigurationError(
            f"can not listen on `{settings.host}:{settings.port}` ({exc.strerror}); choose another with --port"
        ) from None
    return listener


async def _first_key(runtime: Any) -> None:
    """Make the first key where there is none yet, and show it: nobody can see it again."""
    if await runtime.store.keys.any():
        return
    department = sorted(runtime.pipelines)[-1] if "radiology" not in runtime.pipelines else "radiology"
    _, secret = await runtime.store.keys.create(department, ("caller", "officer"), label="first start")
    click.echo(
        f"first start: this key is shown once; department {department}, roles caller and officer\n\n    {secret}\n"
    )


async def _told(runtime: Any, ending: Callable[[], bool]) -> None:
    """Tell the workers of batches how many live requests are answered, so that they stand back."""
    me = f"web-{socket.gethostname()}-{os.getpid()}"
    told: dict[str, int] | None = None
    at = 0.0
    while not ending():
        load, now = runtime.live.most(), time.monotonic()
        if load != told or now - at >= (_BUSY if load else _IDLE):
            with contextlib.suppress(Unavailable):  # said elsewhere, as nothing is answered then
                await runtime.store.processes.beat(me, "web", load)
                told, at = load, now
        await asyncio.sleep(1.0)
    with contextlib.suppress(Unavailable):
        await runtime.store.processes.gone(me)


def _tell_streams(runtime: Any) -> None:
    """Say how streams leave, where a policy lets them leave in windows: what needs the whole answer holds them."""
    for department, pipeline in sorted(runtime.pipelines.items()):
        if pipeline.policy.stream != "windowed":
            continue
        windows = pipeline.windows()
        told = (
            f"are held whole: the {windows.replace(':', ' `')}` needs the whole answer"
            if isinstance(windows, str)
            else f"leave in windows, {windows.hold_back} characters held back"
        )
        click.echo(f"gateway: streams of {department} {told}")


def _embedded(settings: Settings) -> Any:
    """Start the worker that is run beside the server, where one is."""
    from gateway.batch.broker import embedded
    from gateway.cli.embedded import Embedded, environment

    if not (settings.embedded_worker and embedded(settings)):
        return None
    click.echo("gateway: a worker for batches runs beside the server (--no-worker leaves it out)")
    made = Embedded(environment(settings), beat=True, own_session=True)
    made.start()
    return made


async def _serve(settings: Settings) -> None:
    import uvicorn

    from gateway.batch.wake import Waker
    from gateway.bootstrap import bootstrap
    from gateway.cli.embedded import finish
    from gateway.web.app import create_app

    waker = Waker(settings)
    listener = _socket(settings)
    try:
        click.echo(f"gateway: loading policies from {settings.policies_dir}")
        runtime = await bootstrap(settings)
    except BaseException:
        listener.close()
        raise
    try:
        await _first_key(runtime)
    except BaseException:
        await runtime.close()
        raise
    runtime = msgspec.structs.replace(runtime, wake=waker.wake)
    _tell_streams(runtime)
    app = create_app(runtime)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=15,
        lifespan="on",
    )
    # A full collection over the libraries' heap would stop every request for its length; what is loaded now stays.
    gc.collect()
    gc.freeze()
    host, port = listener.getsockname()[:2]
    where = f"[{host}]" if ":" in host else host
    click.echo(f"gateway: serving {', '.join(sorted(runtime.pipelines))} on http://{where}:{port}/v1")
    server = uvicorn.Server(config)
    app.state.stopping = lambda: server.should_exit  # streams that go on for hours end then
    worker = _embedded(settings)

    def ending() -> bool:
        if server.should_exit and worker is not None:
            worker.end()  # while answers under way leave
        return server.should_exit

    telling = asyncio.create_task(_told(runtime, ending))
    try:
        await server.serve(sockets=[listener])
    finally:
        telling.cancel()
        if worker is not None:
            await finish(worker.stop())


@click.command()
@click.option("--no-worker", is_flag=True, help="Run no worker beside the server [GATEWAY_EMBEDDED_WORKER].")
@settings_options("host", "port", "data_dir", "database_url", "policies_dir", "broker_url", "log_level")
def serve(no_worker: bool, **flags: Any) -> None:
    """Serve the OpenAI-compatible API. With the broker `filesystem://` a worker for batches runs beside it."""
    settings = read_settings(**flags, embedded_worker="false" if no_worker else None)
    configure_logs(settings.log_level)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # until the server takes over, a stop while loading is clean
    try:
        try:
            import uvloop

            loop_factory: Any = uvloop.new_event_loop
        except ImportError:
            loop_factory = None
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_serve(settings))
    except KeyboardInterrupt:
        _log.info("stopped")


@click.command("migrate")
@click.option(
    "--app-role", help="PostgreSQL: the role that the gateway signs in as; it gets no right to change the log."
)
@settings_options("data_dir", "database_url")
def migrate_command(app_role: str | None, **flags: Any) -> None:
    """Bring the database's schema up to date (serve does this by itself where it owns the tables)."""
    from gateway.store import migrate
    from gateway.store.roles import migrate_for

    settings = read_settings(**flags)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if app_role is None:
        asyncio.run(migrate(settings.database_url))
        click.echo("the schema is up to date")
    else:
        asyncio.run(migrate_for(settings.database_url, app_role))
        click.echo(f"the schema is up to date; {app_role} may read and append, and change nothing of the log")
