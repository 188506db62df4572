"""The store: the append-only decision log and the API keys, on SQLite or PostgreSQL."""

from gateway.store.check import CheckReport
from gateway.store.keys import ApiKey, Keys
from gateway.store.log import DecisionLog, Stored
from gateway.store.logged import Logged
from gateway.store.migrate import head_problem, migrate
from gateway.store.secret import load_secret
from gateway.store.store import Store

__all__ = [
    "ApiKey",
    "CheckReport",
    "DecisionLog",
    "Keys",
    "Logged",
    "Store",
    "Stored",
    "head_problem",
    "load_secret",
    "migrate",
]
