"""The ``second-opinion`` pre-screener: asks a language model about the uncertain middle, and reads its probability.

The model sees labelled examples and the request, and is asked for one word. That word is never written: the
probabilities of the two verdicts give the risk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from gateway.plugin import ModelRef, Stage, hookimpl

if TYPE_CHECKING:
    from gateway_second_opinion.stage import SecondOpinion

__all__ = ["Config", "build", "gateway_prescreeners"]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model is asked, and how.

    `model` names a model stage that can score answers; the embedded model unless written. `demonstrations` is the even
    number of labelled examples it is shown, as twins. `calibrate` takes off what the model would say of no request at
    all; the rest, log-odds, times `slope` plus `offset` gives the risk. `least` is the probability that both verdicts
    together must have: below it there is no verdict, and the stage fails. `max_chars` bounds a text and `max_texts` how
    many texts found in images are judged; what passes either counts as not inspected.
    """

    model: ModelRef = ModelRef(stage="transformers")
    demonstrations: Annotated[int, Meta(ge=0, le=34)] = 8
    calibrate: bool = True
    slope: Annotated[float, Meta(gt=0.0, le=100.0)] = 1.0
    offset: Annotated[float, Meta(ge=-100.0, le=100.0)] = 0.0
    least: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.01
    max_chars: Annotated[int, Meta(ge=100, le=1_000_000)] = 6000
    max_texts: Annotated[int, Meta(ge=1, le=64)] = 8


def build(config: Config, model: Any) -> SecondOpinion:
    """Make the stage around `model`.

    Raises:
        ValueError: the model can not score answers, or the number of demonstrations is odd.
    """
    from gateway_second_opinion.stage import SecondOpinion

    return SecondOpinion(config, model)


@hookimpl
def gateway_prescreeners() -> list[Stage[Config]]:
    """Offer the stage ``second-opinion``."""
    return [Stage("second-opinion", Config, build, asks="model")]
