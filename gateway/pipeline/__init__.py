"""The only place where a stage is run: a request's way from its parsed form to its outcome."""

from gateway.pipeline.built import Built, BuiltStages
from gateway.pipeline.call import Fault, call_stage
from gateway.pipeline.flow import Pipeline

__all__ = ["Built", "BuiltStages", "Fault", "Pipeline", "call_stage"]
