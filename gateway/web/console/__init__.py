"""The console: server-rendered pages for those who look after the log. `Console` makes its routes.

A page works by links and forms alone; HTMX, which lies beside it, only swaps a part in place. Nothing comes from
another host, no script or style stands in a page, and every question goes to `gateway.store`.
"""

from gateway.web.console.headers import headers_of
from gateway.web.console.routes import Console
from gateway.web.console.templating import templates

__all__ = ["Console", "headers_of", "templates"]
