"""How the weights are made: twin questions from templates, the development files beside them, fine-tuning, figures.

Nothing here is imported when the stage runs.
"""
