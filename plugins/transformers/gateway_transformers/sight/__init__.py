"""A small vision-language model of our own: an ImageNet encoder, a projector trained here, and the embedded SmolLM2.

It names modality and body region of a picture, as a laboratory mouse for the loop with images. It is no doctor.

The shape is LLaVA's (Liu et al. 2023, arXiv 2304.08485): features of the encoder become a few tokens of the language
model, which stays as it was published. Only the projector is kept here; the encoder and the language model come from
the installed packages and are verified by their SHA-256.
"""

from __future__ import annotations

from pathlib import Path

NAME = "smollm2-sight"
"""The short name under which the stage serves it without a `path`."""

FOLDER = Path(__file__).parent / "weights"
"""What was trained here."""

MARK = "sight.json"
"""The file that tells a folder of such a model from others."""
