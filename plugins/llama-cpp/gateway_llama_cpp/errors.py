"""What this stage raises. The end of a name tells the gateway what a caller hears; no message quotes a request."""

from __future__ import annotations


class QueueFull(Exception):
    """More requests wait for this model than its queue takes."""


class QueueLate(Exception):
    """A request waited longer than `queue_seconds` for its turn."""


class ModelClosed(Exception):
    """The model was unloaded before the answer was written."""


class GenerationFailed(Exception):
    """The model failed while it wrote. The message names only the kind of fault."""


class PromptTooLong(ValueError):
    """The prompt leaves no token of the context for an answer."""


class RequestRefused(ValueError):
    """The request asks for what this stage can not do, or for what has no meaning."""
