"""The store: the append-only decision log and the API keys, on SQLite or PostgreSQL."""

from gateway.store.check import CheckReport
from gateway.store.filters import Filter, parse_filter
from gateway.store.kek import KeyRing, load_keyring
from gateway.store.keys import ApiKey, Keys
from gateway.store.log import DecisionLog, Stored
from gateway.store.logged import Logged
from gateway.store.migrate import head_problem, migrate
from gateway.store.office import Office
from gateway.store.search import Complete, Found, Page, Search, Tally
from gateway.store.secret import load_secret
from gateway.store.signer import FileKey, LogSigner
from gateway.store.sinks import FileSink, copies_of, parse_sinks
from gateway.store.store import Store
from gateway.store.tree import Checkpoint, Proof, SigningKey, Tree
from gateway.store.verify import VerifyOptions

__all__ = [
    "ApiKey",
    "CheckReport",
    "Checkpoint",
    "Complete",
    "DecisionLog",
    "FileKey",
    "FileSink",
    "Filter",
    "Found",
    "KeyRing",
    "Keys",
    "LogSigner",
    "Logged",
    "Office",
    "Page",
    "Proof",
    "Search",
    "SigningKey",
    "Store",
    "Stored",
    "Tally",
    "Tree",
    "VerifyOptions",
    "copies_of",
    "head_problem",
    "load_keyring",
    "load_secret",
    "migrate",
    "parse_filter",
    "parse_sinks",
]
