"""Policies: types, pure decisions, loading and lint."""
