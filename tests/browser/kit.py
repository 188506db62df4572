"""What the console's tests share: a served gateway, and a browser that takes note of what it must not do."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import uvicorn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.samples import outcomes  # noqa: E402 - found by the line above
from gateway.bootstrap import Runtime  # noqa: E402
from gateway.identity.limiter import Limiter  # noqa: E402
from gateway.pipeline import Built  # noqa: E402
from gateway.registry import Registry  # noqa: E402
from gateway.settings import read_settings  # noqa: E402
from gateway.store import Store, load_keyring  # noqa: E402
from gateway.web.app import create_app  # noqa: E402

SECRET = bytes(range(32))
WAIT_MS = 10_000

__all__ = ["SECRET", "Served", "Walker", "outcomes"]


class Served:
    """A gateway whose event loop runs in a thread of its own; `run` does there what a test asks."""

    def __init__(self, folder: Path, fill=None, **settings) -> None:
        self.folder, self._settings = folder, settings
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()
        assert self._ready.wait(30)
        if self._failure is not None:
            raise self._failure
        self.keys = {}
        self.ids = {}
        for name, (department, roles) in PEOPLE.items():
            key, text = self.run(self.store.keys.create(department, roles, label=name))
            self.keys[name], self.ids[name] = text, key.id
        if fill is not None:
            self.run(fill(self.store))

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def log(self, *made):
        """Record outcomes; give their ids."""

        async def work():
            logged = [await self.store.decisions.append(outcome) for outcome in made]
            await self.store.sequencer.catch_up()
            return [one.id for one in logged]

        return self.run(work())

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as exc:  # noqa: BLE001 - told to the test that waits
            self._failure = exc
            self._ready.set()

    async def _serve(self) -> None:
        self.store = await Store.open(
            f"sqlite:///{self.folder}/log.sqlite3", secret=SECRET, keyring=load_keyring(self.folder)
        )
        settings = read_settings({}, data_dir=self.folder, **self._settings)
        self.runtime = Runtime(
            settings=settings,
            registry=Registry(offers={}),
            store=self.store,
            pipelines={},
            stages=(build_clinical(),),
            limits=Limiter(failures=settings.limit_failures),
        )
        listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.app = create_app(self.runtime)
        config = uvicorn.Config(self.app, log_config=None, access_log=False, lifespan="on")
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None
        serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:
            if serving.done():
                await serving
            await asyncio.sleep(0.01)
        self._ready.set()
        await serving

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    def ask(self, method, path, *, cookie=None, form=None, **headers):
        """Send one request as a program would; give status, headers and text. No redirect is followed."""
        body = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(self.base + path, body, method=method)
        if form is not None:
            request.add_header("content-type", "application/x-www-form-urlencoded")
        if cookie is not None:
            request.add_header("cookie", f"gateway-console={cookie}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with _OPENER.open(request, timeout=20) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.headers, exc.read().decode()

    def signed(self, name):
        """Sign in as a program would; give the cookie."""
        status, headers, _ = self.ask("POST", "/console/sign-in", form={"key": self.keys[name]}, origin=self.base)
        assert status == 303, status
        return headers["set-cookie"].partition("=")[2].partition(";")[0]


def build_clinical() -> Built:
    """Build the injector with pictures, as a policy with `images: true` does."""
    from gateway_clinical.injector import Clinical, ClinicalConfig
    from gateway_clinical.library import load

    return Built(name="clinical", version="0.1.0", stage=Clinical(load(), ClinicalConfig(images=True)))


PEOPLE = {
    "officer": ("radiology", ("officer",)),
    "second": ("radiology", ("officer",)),
    "auditor": ("radiology", ("auditor",)),
    "pathologist": ("pathology", ("officer",)),
    "caller": ("radiology", ("caller",)),
    "admin": ("radiology", ("admin",)),
    "platform": ("radiology", ("platform",)),
}


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


_OPENER = urllib.request.build_opener(_Stay)


class Walker:
    """A browser of its own. It notes every request, dialog, error and broken policy of its pages."""

    def __init__(self, chromium, served, *, javascript=True) -> None:
        self.served = served
        self.context = chromium.new_context(
            base_url=served.base, viewport={"width": 1280, "height": 900}, java_script_enabled=javascript,
            accept_downloads=True,
        )  # fmt: skip
        self.hosts, self.dialogs, self.complaints = set(), [], []
        self.context.on("request", lambda request: self.hosts.add(urllib.parse.urlsplit(request.url).netloc))
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("dialog", self._dialog)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("console", self._said)
        if javascript:
            self.page.add_init_script(
                "document.addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective))"
            )

    def _dialog(self, dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _said(self, message) -> None:
        # a page that is refused says so in the browser's console as well; the tests look at its status themselves
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def trouble(self):
        other = self.hosts - {urllib.parse.urlsplit(self.served.base).netloc, ""}
        return [*map(str, other), *self.dialogs, *self.complaints]

    def sign_in(self, name) -> None:
        self.go("/console/sign-in")
        self.page.get_by_label("API key or access token").fill(self.served.keys[name])
        self.press("Sign in")

    def enter(self, name) -> None:
        """Be signed in, without the page that asks for the key."""
        cookie = {"name": "gateway-console", "value": self.served.signed(name), "url": self.served.base}
        self.context.add_cookies([{**cookie, "httpOnly": True, "sameSite": "Strict"}])
        self.go("/console/decisions")

    def go(self, path):
        return self.page.goto(path)

    def click(self, what) -> None:
        """Click what leads to another page, and wait for that page."""
        with self.page.expect_navigation():
            what.click()

    def press(self, name) -> None:
        """Press a button that sends a form, and wait for what it gives."""
        self.click(self.page.get_by_role("button", name=name))

    def follow(self, name) -> None:
        """Follow a link, and wait for where it leads."""
        self.click(self.page.get_by_role("link", name=name))

    def text(self):
        return self.page.locator("main").inner_text()

    def close(self) -> None:
        self.context.close()
