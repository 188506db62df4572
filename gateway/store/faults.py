"""What the database's trouble means, in words that hold no message of the driver: it may quote a password or a row."""

from __future__ import annotations

_SQLITE = {
    "SQLITE_FULL": "the disk is full; free some space",
    "SQLITE_READONLY": "the database file can not be written; check its owner and mode",
    "SQLITE_BUSY": "another process holds the database file; end what holds it, or wait",
    "SQLITE_LOCKED": "another process holds the database file; end what holds it, or wait",
    "SQLITE_CANTOPEN": "the database file can not be opened; check that its folder exists and may be written",
    "SQLITE_NOTADB": "the file is no SQLite database; point GATEWAY_DATABASE_URL at another",
    "SQLITE_CORRUPT": "the database file is damaged; stop, keep a copy, and restore a backup",
    "SQLITE_IOERR": "the disk fails or is full; look at the system's log",
    "SQLITE_CONSTRAINT": "the database refuses the record; its id may stand in the log already",
}

_POSTGRES = {
    "53100": "the database's disk is full; free some space",
    "53": "the database is out of connections or memory; give it more, or start fewer processes",
    "25006": "the database is read-only; point GATEWAY_DATABASE_URL at the primary",
    "28": "the database refuses this user or password; check GATEWAY_DATABASE_URL",
    "3D000": "no such database; create it, or check GATEWAY_DATABASE_URL",
    "42501": "this user may not do that in the database; grant it CREATE on the schema",
    "57P": "the database is starting or stopping; try again",
    "08": "the connection to the database was lost; try again",
    "23": "the database refuses the record; its id may stand in the log already",
}


def _chain(exc: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[object] = [exc]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            waiting += [getattr(one, "orig", None), one.__cause__, one.__context__]
    return found


def code(exc: BaseException) -> str | None:
    """Give the database's own code: SQLite's name of the error, or PostgreSQL's five characters."""
    for one in _chain(exc):
        found = getattr(one, "sqlite_errorname", None) or getattr(one, "sqlstate", None)
        if isinstance(found, str):
            return found
    return None


def hint(exc: BaseException) -> str:
    """Say what is wrong with the database and what to do."""
    found = code(exc)
    if found is not None:
        table = _SQLITE if found.startswith("SQLITE") else _POSTGRES
        for prefix in sorted(table, key=len, reverse=True):
            if found.startswith(prefix):
                return table[prefix]
        return f"the database gave the error `{found}`"
    if any(isinstance(one, TimeoutError) for one in _chain(exc)):
        return "the database does not answer in time; check that it runs"
    if any(isinstance(one, OSError) for one in _chain(exc)):
        return "the database can not be reached; check that it runs and that GATEWAY_DATABASE_URL is right"
    return f"the database gave an error ({type(exc).__name__})"
