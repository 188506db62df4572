"""The store: the append-only decision log, the API keys and the batches, on SQLite or PostgreSQL."""

from gateway.errors import FileDamaged
from gateway.store.batch_rows import LeaseLost
from gateway.store.batch_shape import (
    ENDED,
    Batch,
    BatchError,
    Chunk,
    Counts,
    Job,
    JobKind,
    Kind,
    LineOutcome,
    LineResult,
    Status,
    StoredFile,
)
from gateway.store.batches import Batches
from gateway.store.check import CheckReport
from gateway.store.file_writer import FileWriter
from gateway.store.files import Files
from gateway.store.filters import Filter, parse_filter
from gateway.store.insert import LineRow, LineTaken
from gateway.store.jobs import LEASE, MAX_ATTEMPTS, Jobs
from gateway.store.kek import KeyRing, load_keyring
from gateway.store.keys import ApiKey, Keys
from gateway.store.log import DecisionLog, Stored
from gateway.store.logged import Logged, Opened
from gateway.store.migrate import head_problem, migrate
from gateway.store.office import Office
from gateway.store.processes import Processes
from gateway.store.search import Complete, Found, Page, Search, Tally
from gateway.store.secret import load_secret
from gateway.store.signer import FileKey, LogSigner
from gateway.store.sinks import FileSink, copies_of, parse_sinks
from gateway.store.store import Store
from gateway.store.tree import Checkpoint, Proof, SigningKey, Tree
from gateway.store.verify import VerifyOptions

__all__ = [
    "ENDED",
    "LEASE",
    "MAX_ATTEMPTS",
    "ApiKey",
    "Batch",
    "BatchError",
    "Batches",
    "CheckReport",
    "Checkpoint",
    "Chunk",
    "Complete",
    "Counts",
    "DecisionLog",
    "FileDamaged",
    "FileKey",
    "FileSink",
    "FileWriter",
    "Files",
    "Filter",
    "Found",
    "Job",
    "JobKind",
    "Jobs",
    "KeyRing",
    "Keys",
    "Kind",
    "LeaseLost",
    "LineOutcome",
    "LineResult",
    "LineRow",
    "LineTaken",
    "LogSigner",
    "Logged",
    "Office",
    "Opened",
    "Page",
    "Processes",
    "Proof",
    "Search",
    "SigningKey",
    "Status",
    "Store",
    "Stored",
    "StoredFile",
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
