"""Asynchronous work: Celery wakes workers, plain functions do the work."""
