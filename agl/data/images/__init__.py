"""Patches to features: stain arithmetic, the built-in extractor, encoders."""
