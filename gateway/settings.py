"""Settings: read once, at start, from the environment and from flags of the same meaning (a flag wins)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from gateway.errors import ConfigurationError
from gateway.images import Limits

LOG_LEVELS = ("debug", "info", "warning", "error")


class Settings(Struct, frozen=True, kw_only=True):
    """What the gateway is told from outside.

    `database_url` is SQLite in `data_dir` unless given; `secret` keys the digests of the log and the hashes of the
    API keys and is a file in `data_dir` unless given (give the same one to every process that shares a database).
    `in_flight` bounds the requests that are worked on at once, `max_body_bytes` one body.
    """

    data_dir: Path
    database_url: str
    broker_url: str
    policies_dir: Path
    host: str = "127.0.0.1"
    port: int = 8080
    log_level: str = "info"
    secret: str | None = None
    max_body_bytes: int = 32 * 1024 * 1024
    in_flight: int = 256
    image_limits: Limits = Limits()


_READ = {
    "GATEWAY_DATA_DIR": "data_dir",
    "GATEWAY_DATABASE_URL": "database_url",
    "GATEWAY_BROKER_URL": "broker_url",
    "GATEWAY_POLICIES_DIR": "policies_dir",
    "GATEWAY_HOST": "host",
    "GATEWAY_PORT": "port",
    "GATEWAY_LOG_LEVEL": "log_level",
    "GATEWAY_SECRET": "secret",
    "GATEWAY_MAX_BODY_BYTES": "max_body_bytes",
    "GATEWAY_IN_FLIGHT": "in_flight",
}
"""The settings by their names in the environment."""


def _number(name: str, text: str, low: int, high: int, problems: list[str]) -> int:
    if text.isascii() and text.isdigit() and low <= int(text) <= high:
        return int(text)
    problems.append(f"{name}: expected a whole number from {low} to {high}, got `{text}`")
    return low


def read_settings(environment: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Read the settings.

    `flags` are named as the fields of `Settings`; None means *not given*. Raises ConfigurationError with every problem.
    """
    source = os.environ if environment is None else environment
    given = {field: source[name] for name, field in _READ.items() if source.get(name)}
    given |= {field: str(value) for field, value in flags.items() if value is not None}
    problems: list[str] = []
    data_dir = Path(given.get("data_dir", "data")).expanduser().absolute()
    level = given.get("log_level", "info").lower()
    if level not in LOG_LEVELS:
        problems.append(f"GATEWAY_LOG_LEVEL: expected one of {', '.join(LOG_LEVELS)}, got `{level}`")
    url = given.get("database_url", f"sqlite:///{data_dir / 'gateway.sqlite3'}")
    if not url.startswith(("sqlite", "postgresql")):
        problems.append("GATEWAY_DATABASE_URL: expected `sqlite:///file` or `postgresql://user@host/name`")
    settings = Settings(
        data_dir=data_dir,
        database_url=url,
        broker_url=given.get("broker_url", "filesystem://"),
        policies_dir=Path(given.get("policies_dir", "policies")).expanduser().absolute(),
        host=given.get("host", "127.0.0.1"),
        port=_number("GATEWAY_PORT", given.get("port", "8080"), 0, 65535, problems),
        log_level=level,
        secret=given.get("secret"),
        max_body_bytes=_number(
            "GATEWAY_MAX_BODY_BYTES", given.get("max_body_bytes", str(32 * 1024 * 1024)), 1024, 2**31, problems
        ),
        in_flight=_number("GATEWAY_IN_FLIGHT", given.get("in_flight", "256"), 1, 65536, problems),
    )
    if problems:
        raise ConfigurationError(*problems)
    return settings
