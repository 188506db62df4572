"""The broker: which ones there are, how Celery talks to them, and what the log says while one is away."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery.app.amqp import AMQP
from kombu import Connection

from gateway.batch.folder import POLL, SCHEME
from gateway.errors import ConfigurationError
from gateway.settings import Settings

EXPECTED = (
    "expected `redis://host:6379/0`, `amqp://user:password@host:5672/vhost` (RabbitMQ), or `filesystem://` (files in "
    "the data folder; no server)"
)
_PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
_CONNECT = 3.0  # seconds until a broker that does not answer counts as away
_SOCKET = 20.0  # seconds until a command does; longer than Redis holds back the answer to a blocking one
_HEARTBEAT = 15  # seconds between the heartbeats of RabbitMQ, and between the checks of a connection to Redis
_VISIBLE = 600  # seconds after which Redis gives a message again that nobody has acknowledged; a task takes a minute
_log = logging.getLogger("gateway.batch")


class _Connection(Connection):
    """A connection that is tried again every few seconds: Celery would wait for half a minute in the end."""

    def ensure_connection(self, errback: Any = None, max_retries: int | None = None, **kwargs: Any) -> Connection:
        """Connect, however often it takes."""
        kwargs |= {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 3.0}
        return super().ensure_connection(errback, max_retries, **kwargs)


class Messages(AMQP):
    """What Celery sends and takes messages with."""

    Connection = _Connection


def embedded(settings: Settings) -> bool:
    """Tell whether messages are files, so that no server is needed."""
    return settings.broker_url.startswith("filesystem:")


def broker_place(settings: Settings) -> str:
    """Name the broker for people, without its password. Raises ConfigurationError where its URL is none."""
    wrong = ConfigurationError(f"GATEWAY_BROKER_URL: {EXPECTED}")  # the URL is not quoted: it may hold a password
    try:
        parts = urlsplit(settings.broker_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme == "filesystem":
        if settings.broker_url != "filesystem://":
            raise ConfigurationError(
                "GATEWAY_BROKER_URL: `filesystem://` takes no path; messages lie in the data folder, GATEWAY_DATA_DIR"
            )
        return f"the folder `{messages_folder(settings)}`"
    database = parts.path.strip("/")
    if parts.scheme not in _PORTS or not host or parts.fragment:
        raise wrong
    if parts.scheme.startswith("redis") and database and not (database.isascii() and database.isdigit()):
        raise wrong
    return f"the broker `{parts.scheme}://{host}:{port or _PORTS[parts.scheme]}`"


def messages_folder(settings: Settings) -> Path:
    """Give the folder of the messages, for ``filesystem://``."""
    return settings.data_dir / "broker" / "messages"


def broker_conf(settings: Settings) -> dict[str, Any]:
    """Give Celery's settings for the broker. Raises ConfigurationError where its URL is none.

    A connection that is lost is made again for ever, and one that is only half there is found out.
    """
    broker_place(settings)
    conf: dict[str, Any] = {
        "broker_url": settings.broker_url,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "broker_connection_timeout": _CONNECT,
    }
    if embedded(settings):
        folder = messages_folder(settings)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigurationError(
                f"the folder `{folder}` can not be made ({exc.strerror}); see GATEWAY_DATA_DIR"
            ) from None
        return conf | {
            "broker_url": f"{SCHEME}://localhost//",
            "broker_transport_options": {
                "data_folder_in": str(folder),
                "data_folder_out": str(folder),
                "control_folder": str(folder.parent / "control"),
                "polling_interval": POLL,
            },
        }
    if settings.broker_url.startswith("redis"):
        return conf | {
            "broker_transport_options": {
                "visibility_timeout": _VISIBLE,
                "socket_connect_timeout": _CONNECT,
                "socket_timeout": _SOCKET,
                "socket_keepalive": True,
                "health_check_interval": _HEARTBEAT,
                "retry_on_timeout": True,
            }
        }
    return conf | {
        "broker_heartbeat": 2 * _HEARTBEAT,
        "broker_transport_options": {"read_timeout": _SOCKET, "write_timeout": _SOCKET},
    }


class BrokerNews(logging.Filter):
    """Says once, in words of the gateway's own, that the broker is away, and once that it is there again.

    A filter of the loggers of Celery's consumer: what those say holds the broker's address.
    """

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place
        self.away = False

    def install(self) -> None:
        """Listen to Celery's consumer."""
        for name in ("celery.worker.consumer.consumer", "celery.worker.consumer.connection"):
            logger = logging.getLogger(name)
            logger.addFilter(self)
            logger.setLevel(logging.INFO)
        logging.getLogger("celery.beat").addFilter(_no_news)

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether Celery's own record is to be printed as well."""
        text = f"{record.msg} {record.args[0] if isinstance(record.args, tuple) and record.args else ''}"
        if "Cannot connect to" in text or "Connection to broker lost" in text:
            if not self.away:
                _log.warning(
                    "%s can not be reached; it is tried again until it can, and meanwhile workers look for work "
                    "themselves, some seconds later than usual",
                    self._place,
                )
            self.away = True
            return False
        if text.startswith("Connected to"):
            if self.away:
                _log.warning("%s is reached again", self._place)
            self.away = False
            return False
        return record.levelno >= logging.WARNING


def _no_news(record: logging.LogRecord) -> bool:
    """Leave out what beat says again and again while the broker is away."""
    return not str(record.msg).startswith(("beat: Connection error", "Message Error"))
