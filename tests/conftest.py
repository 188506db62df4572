"""Fixtures for all tests."""

from servers import cluster, redis
from support import faulty, serve, upstream, worker

__all__ = ["cluster", "faulty", "redis", "serve", "upstream", "worker"]
