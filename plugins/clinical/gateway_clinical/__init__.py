"""An injector that puts synthetic clinical demonstrations, in harmful and benign pairs, before the user's question.

The defence is the one of "Enhancing the Safety of Medical Vision-Language Models by Synthetic Demonstrations"
(arXiv 2506.09067).
"""

from __future__ import annotations

from typing import Any

from gateway.plugin import Stage, hookimpl
from gateway_clinical.injector import ClinicalConfig, build


@hookimpl
def gateway_injectors() -> list[Stage[Any]]:
    """Offer the stage `clinical`."""
    return [Stage("clinical", ClinicalConfig, build)]
