"""The model stage ``openai``: any OpenAI-compatible server. aiohttp is imported only when the stage is built."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.plugin import Stage, hookimpl

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Address = Annotated[str, Meta(pattern=r"^https?://")]
Model = Annotated[str, Meta(min_length=1)]
KeyEnv = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several servers. `weight` is its share of the requests, beside the others' weights.

    `model` is the model's name there, and `api_key_env` its key's variable, where they are not the stage's.
    """

    base_url: Address
    model: Model | None = None
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    api_key_env: KeyEnv | None = None


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which server or servers, which model, and how long to wait for it.

    `base_url` ends before ``/chat/completions``, for instance ``http://vllm:8000/v1``; in place of it `upstreams` names
    several servers of the same model. `api_key_env` names the environment variable that holds the key: a policy never
    holds the key itself. `dialect` is the servers'. `max_completion_tokens` bounds answers by the field of this name,
    which OpenAI's newer models ask for.

    `connect_timeout`, `headers_timeout` (from the start to the first byte of the answer), `first_token_timeout` (of a
    stream: from the start to the first token; `headers_timeout` where not given), `body_timeout` (between two pieces of
    the answer) and `whole_timeout` are in seconds; the policy's deadline bounds the whole as well. `retries` is how
    many further tries a request has, on all servers together, where nothing was produced. `in_flight` bounds the
    requests at once (`max_connections` where not given), `queue` those that wait for their turn.

    `context` is how many tokens the model reads at once (vLLM's ``--max-model-len``): with it demonstrations that would
    not fit are trimmed, and not sent for the server to refuse. `image_tokens` is what an image takes of it. `use_proxy`
    obeys the environment's proxy settings, which are ignored otherwise.
    """

    model: Model
    base_url: Address | None = None
    upstreams: tuple[Server, ...] = ()
    api_key_env: KeyEnv | None = None
    dialect: Literal["openai", "vllm", "sglang", "ollama"] = "openai"
    max_completion_tokens: bool = False
    connect_timeout: Seconds = 5.0
    headers_timeout: Seconds = 120.0
    first_token_timeout: Seconds | None = None
    body_timeout: Seconds = 30.0
    whole_timeout: Seconds | None = None
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    max_connections: Count = 100
    in_flight: Count | None = None
    queue: Annotated[int, Meta(ge=0, le=10_000)] = 100
    context: Annotated[int, Meta(ge=512)] | None = None
    image_tokens: Count = 256
    use_proxy: bool = False


def build(config: Config) -> Any:
    """Check the settings and make the client; no connection is opened.

    Raises:
        ValueError: the settings do not fit together, the environment variable of a key is not set, or an address is
            none.
    """
    if (config.base_url is None) == (not config.upstreams):
        raise ValueError("name one server by `base_url`, or several by `upstreams`, and not both")
    if config.in_flight is not None and config.in_flight > config.max_connections:
        raise ValueError("`in_flight` is over `max_connections`; raise that as well")
    if config.max_completion_tokens and config.dialect == "ollama":
        raise ValueError("the dialect `ollama` has no `max_completion_tokens`; leave it out")
    from gateway_openai.client import OpenAIBackend  # aiohttp stays unimported until a policy names this stage

    return OpenAIBackend(config)


@hookimpl
def gateway_backends() -> list[Stage[Any]]:
    """Offer the stage ``openai``."""
    return [Stage("openai", Config, build, context=lambda config: config.context)]
