"""The model stage ``openai``: any OpenAI-compatible server. aiohttp is imported only when the stage is built."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.plugin import Stage, hookimpl

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Count = Annotated[int, Meta(ge=1, le=10_000)]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which server, which model, and how long to wait for it.

    `base_url` ends before ``/chat/completions``, for instance ``http://vllm:8000/v1``. `api_key_env` names the
    environment variable that holds the key: a policy never holds the key itself. `connect_timeout`, `headers_timeout`
    (from the start to the first byte of the answer) and `body_timeout` (between two pieces of the answer) are in
    seconds; the policy's deadline bounds the whole. `context` is how many tokens the model reads at once (vLLM's
    ``--max-model-len``): with it demonstrations that would not fit are trimmed, and not sent for the server to refuse.
    `image_tokens` is what an image takes of it. `use_proxy` obeys the environment's proxy settings, which are
    ignored otherwise.
    """

    base_url: Annotated[str, Meta(pattern=r"^https?://")]
    model: Annotated[str, Meta(min_length=1)]
    api_key_env: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    connect_timeout: Seconds = 5.0
    headers_timeout: Seconds = 120.0
    body_timeout: Seconds = 30.0
    max_connections: Count = 100
    context: Annotated[int, Meta(ge=512)] | None = None
    image_tokens: Count = 256
    use_proxy: bool = False


def build(config: Config) -> Any:
    """Check the settings and make the client; no connection is opened.

    Raises:
        ValueError: the environment variable of the key is not set, or the address is not one.
    """
    from gateway_openai.client import OpenAIBackend  # aiohttp stays unimported until a policy names this stage

    return OpenAIBackend(config)


@hookimpl
def gateway_backends() -> list[Stage[Any]]:
    """Offer the stage ``openai``."""
    return [Stage("openai", Config, build, context=lambda config: config.context)]
