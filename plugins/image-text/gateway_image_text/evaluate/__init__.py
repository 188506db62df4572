"""Figures on drawn images: how well text is read, and in what time. ``python -m gateway_image_text.evaluate --help``.

Sentences of its own word lists are drawn on phantoms of its own and, if a folder is given, on the images in it. Nothing
here is used in serving.
"""
