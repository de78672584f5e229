"""Features of patches: the built-in extractor, and feature files for a whole folder by any encoder."""

from __future__ import annotations

from agl.data.features_builtin import FEATURE_NAMES, extract
from agl.data.features_folder import extract_folder

__all__ = ["FEATURE_NAMES", "extract", "extract_folder"]
