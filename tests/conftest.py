"""Fixtures for all tests."""

from support import faulty, serve, upstream

__all__ = ["faulty", "serve", "upstream"]
