"""Templates: Jinja with every value escaped, and the few words that all pages share."""

from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Redirect, Template
from litestar.template import TemplateConfig

from gateway.records import may
from gateway.records.proportions import Share
from gateway.records.words import ms, plain, share
from gateway.web.console.assets import address
from gateway.web.console.telling import in_pieces

if TYPE_CHECKING:
    from gateway.store.sessions import Session

HOME = Path(__file__).parent


def _instant(value: dt.datetime | None) -> str:
    """Write a time in UTC to the second; the page says that it is UTC."""
    return "" if value is None else value.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _machine(value: dt.datetime) -> str:
    return value.astimezone(dt.UTC).isoformat(timespec="milliseconds")


def _share_of(value: Share) -> str:
    """Write a share with its counts and its interval."""
    if value.value is None or value.low is None or value.high is None:
        return "nothing to tell yet"
    return f"{value.value:.0%} ({value.hits} of {value.of}; {value.low:.0%} to {value.high:.0%})"


def _span(seconds: float | None) -> str:
    """Write a time in the unit that fits."""
    if seconds is None:
        return "nothing to tell yet"
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HOME / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "instant": _instant,
        "machine": _machine,
        "plain": plain,
        "pieces": in_pieces,
        "share": share,
        "ms": ms,
        "base64": lambda data: base64.b64encode(data).decode(),
        "thousands": lambda number: f"{number:,}".replace(",", "\u202f"),
    }
    environment.globals |= {"may": may, "asset": address, "share_of": _share_of, "span": _span}
    return environment


def templates() -> TemplateConfig[JinjaTemplateEngine]:
    """Make the configuration by which the application finds the console's templates."""
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(_environment()))


def page(name: str, session: Session | None, /, status: int = 200, **context: Any) -> Template:
    """Make the answer that shows the template `name`."""
    shown = {"session": session, "now": dt.datetime.now(dt.UTC), **context}
    return Template(template_name=f"{name}.html", context=shown, status_code=status, media_type="text/html")


def see_other(path: str) -> Redirect:
    """Send the browser on to `path` after a form, so that a reload does not send the form again."""
    return Redirect(path, status_code=303)
