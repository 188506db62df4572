"""The Med-VLM Safety Gateway: evidence from plugins, decisions from policies, a record before every answer."""

__version__ = "0.1.0"
