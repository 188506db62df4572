"""Attacks on models with sight, by gradients: they need the model's weights, which a stage of text does not show."""
