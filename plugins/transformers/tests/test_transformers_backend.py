"""The embedded model for real: answers, limits, repeatability, prefixes, batches, and what must not pass."""
