"""Measurement of what a defence buys: attack success and over-defense."""

from gateway.evaluation.defence import Arm, Cell, Question, measure_defence

__all__ = ["Arm", "Cell", "Question", "measure_defence"]
