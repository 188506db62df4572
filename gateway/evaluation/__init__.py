"""Measurement of what a policy decides and of what demonstrations do: attack success and over-defense."""
