"""Settings: read once, at start, from the environment and from flags of the same meaning (a flag wins)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from gateway.errors import ConfigurationError
from gateway.identity.rates import Rate, parse_rates, redis_url
from gateway.images import Limits

LOG_LEVELS = ("debug", "info", "warning", "error")


class Settings(Struct, frozen=True, kw_only=True):
    """What the gateway is told from outside.

    `database_url` is SQLite in `data_dir` unless given; `secret` keys the digests of the log and the hashes of the
    API keys and is a file in `data_dir` unless given (give the same one to every process that shares a database).
    `log_key` is the file of the key that signs the log's checkpoints (``log.key`` in `data_dir` unless given),
    `log_name` the log's name, and `checkpoint_sinks` are where copies of checkpoints go, addresses with spaces between.
    `in_flight` bounds the requests that are worked on at once, `max_body_bytes` one body. `public_url` is the address
    at which people reach the console, where a proxy stands between (``https://gateway.example``).

    `identity` is the file of trusted issuers of bearer tokens. `limit_key` and `limit_department` bound requests,
    `limit_failures` wrong keys from one address; `limits_url` names the Redis that counts where several processes
    serve, and `limits_allow_if_unavailable` lets requests pass while it is away.

    `vault_key` or `vault_key_file` hold the keys of the vault, in place of ``vault.key`` in `data_dir`; `vault_kms` is
    a command that asks a key service, and `vault_kms_key` the key there.

    `files_dir` is where the files of batches lie, encrypted (``files`` in `data_dir` unless given; all processes must
    see the same folder), `max_file_bytes` bounds one, and `file_days` is how long they are kept. `queue` is the queue
    on the broker; installations that share a broker need one each. With the embedded broker (``filesystem://``)
    `embedded_worker` lets ``gateway serve`` run a worker by itself.
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
    public_url: str | None = None
    log_key: Path | None = None
    log_name: str | None = None
    checkpoint_sinks: str = ""
    identity: Path | None = None
    limit_key: tuple[Rate, ...] = ()
    limit_department: tuple[Rate, ...] = ()
    limit_failures: Rate | None = Rate(30, "minute")
    limits_url: str | None = None
    limits_allow_if_unavailable: bool = False
    vault_key: str | None = None
    vault_key_file: Path | None = None
    vault_kms: str | None = None
    vault_kms_key: str = "default"
    files_dir: Path | None = None
    max_file_bytes: int = 4 * 1024**3
    file_days: int = 30
    queue: str = "gateway"
    embedded_worker: bool = True
    image_limits: Limits = Limits()

    @property
    def files(self) -> Path:
        """Give the folder of the files of batches."""
        return self.files_dir or self.data_dir / "files"


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
    "GATEWAY_LOG_KEY": "log_key",
    "GATEWAY_LOG_NAME": "log_name",
    "GATEWAY_CHECKPOINT_SINKS": "checkpoint_sinks",
    "GATEWAY_PUBLIC_URL": "public_url",
    "GATEWAY_IDENTITY": "identity",
    "GATEWAY_LIMIT_KEY": "limit_key",
    "GATEWAY_LIMIT_DEPARTMENT": "limit_department",
    "GATEWAY_LIMIT_FAILURES": "limit_failures",
    "GATEWAY_LIMITS_URL": "limits_url",
    "GATEWAY_LIMITS_ALLOW_IF_UNAVAILABLE": "limits_allow_if_unavailable",
    "GATEWAY_VAULT_KEY": "vault_key",
    "GATEWAY_VAULT_KEY_FILE": "vault_key_file",
    "GATEWAY_VAULT_KMS": "vault_kms",
    "GATEWAY_VAULT_KMS_KEY": "vault_kms_key",
    "GATEWAY_FILES_DIR": "files_dir",
    "GATEWAY_MAX_FILE_BYTES": "max_file_bytes",
    "GATEWAY_FILE_DAYS": "file_days",
    "GATEWAY_QUEUE": "queue",
    "GATEWAY_EMBEDDED_WORKER": "embedded_worker",
}
"""The settings by their names in the environment."""


def _number(name: str, text: str, low: int, high: int, problems: list[str]) -> int:
    if text.isascii() and text.isdigit() and low <= int(text) <= high:
        return int(text)
    problems.append(f"{name}: expected a whole number from {low} to {high}, got `{text}`")
    return low


def _limits(given: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    """Read what bounds requests."""
    found: dict[str, Any] = {}
    for name in ("limit_key", "limit_department", "limit_failures"):
        text = given.get(name, "30/minute" if name == "limit_failures" else "")
        try:
            found[name] = () if text == "off" else parse_rates(text)
        except ValueError as exc:
            problems.append(f"GATEWAY_{name.upper()}: {exc}")
    failures = found.get("limit_failures", ())
    if len(failures) > 1:
        problems.append("GATEWAY_LIMIT_FAILURES: expected one rate, such as `30/minute`, or `off`")
    found["limit_failures"] = failures[0] if failures else None
    url = given.get("limits_url")
    try:
        found["limits_url"] = None if url is None else redis_url(url)
    except ValueError as exc:
        problems.append(f"GATEWAY_LIMITS_URL: {exc}")
    found["limits_allow_if_unavailable"] = _truth(given, "limits_allow_if_unavailable", "false", problems)
    return found


def _truth(given: Mapping[str, str], field: str, default: str, problems: list[str]) -> bool:
    text = given.get(field, default).lower()
    if text not in ("true", "false"):
        problems.append(f"GATEWAY_{field.upper()}: expected `true` or `false`, got `{text}`")
    return text == "true"


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
    public = given.get("public_url")
    if public is not None and not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+/?", public):
        problems.append("GATEWAY_PUBLIC_URL: expected an address without a path, such as `https://gateway.example`")
    queue = given.get("queue", "gateway")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", queue):
        problems.append("GATEWAY_QUEUE: expected 1 to 64 letters, digits, `-` or `_`")
    if "vault_key" in given and "vault_key_file" in given:
        problems.append("GATEWAY_VAULT_KEY: GATEWAY_VAULT_KEY_FILE is set too; give one of the two")
    settings = Settings(
        data_dir=data_dir,
        database_url=url,
        broker_url=given.get("broker_url", "filesystem://"),
        policies_dir=Path(given.get("policies_dir", "policies")).expanduser().absolute(),
        host=given.get("host", "127.0.0.1"),
        port=_number("GATEWAY_PORT", given.get("port", "8080"), 0, 65535, problems),
        log_level=level,
        secret=given.get("secret"),
        vault_key=given.get("vault_key"),
        vault_key_file=Path(given["vault_key_file"]).expanduser().absolute() if "vault_key_file" in given else None,
        vault_kms=given.get("vault_kms"),
        vault_kms_key=given.get("vault_kms_key", "default"),
        log_key=Path(given["log_key"]).expanduser().absolute() if "log_key" in given else None,
        log_name=given.get("log_name"),
        checkpoint_sinks=given.get("checkpoint_sinks", ""),
        public_url=public,
        identity=Path(given["identity"]).expanduser().absolute() if "identity" in given else None,
        **_limits(given, problems),
        max_body_bytes=_number(
            "GATEWAY_MAX_BODY_BYTES", given.get("max_body_bytes", str(32 * 1024 * 1024)), 1024, 2**31, problems
        ),
        in_flight=_number("GATEWAY_IN_FLIGHT", given.get("in_flight", "256"), 1, 65536, problems),
        files_dir=Path(given["files_dir"]).expanduser().absolute() if "files_dir" in given else None,
        max_file_bytes=_number(
            "GATEWAY_MAX_FILE_BYTES", given.get("max_file_bytes", str(4 * 1024**3)), 1024, 2**40, problems
        ),
        file_days=_number("GATEWAY_FILE_DAYS", given.get("file_days", "30"), 1, 3650, problems),
        queue=queue,
        embedded_worker=_truth(given, "embedded_worker", "true", problems),
    )
    if problems:
        raise ConfigurationError(*problems)
    return settings
