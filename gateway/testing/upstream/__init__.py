"""A model server that keeps to a script, for tests and benchmarks: OpenAI's HTTP API on raw sockets, faults included.

`ReferenceUpstream` serves in the running event loop or in a thread; ``python -m gateway.testing.upstream`` serves as a
process. What a request gets is a *personality*, chosen by its `model`: see `PERSONALITIES`. Whatever goes wrong goes
wrong on the wire: connections are cut and reset, lengths are false, bytes come one at a time.
"""

from gateway.testing.upstream.asked import Asked
from gateway.testing.upstream.personality import Personality
from gateway.testing.upstream.server import ReferenceUpstream, Step, read_script, serving
from gateway.testing.upstream.table import PERSONALITIES, table

__all__ = ["PERSONALITIES", "Asked", "Personality", "ReferenceUpstream", "Step", "read_script", "serving", "table"]
