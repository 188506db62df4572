"""The headers of the console's pages: what a browser may load, send and frame there."""

from __future__ import annotations

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

_Headers = tuple[tuple[bytes, bytes], ...]
_HEADERS: _Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", _POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    # `no-referrer` would make browsers send `Origin: null` with the console's own forms
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
)


_PAGE: _Headers = (*_HEADERS, (b"cache-control", b"no-store"))


def headers_of(path: str) -> _Headers:
    """Give the headers that an answer at `path` is to have besides; none outside the console.

    An asset says itself how long it may be kept; a page is never kept.
    """
    if not (path == "/console" or path.startswith("/console/")):
        return ()
    return _HEADERS if path.startswith("/console/assets/") else _PAGE
