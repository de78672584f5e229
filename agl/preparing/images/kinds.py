"""Which file is read by what."""

from __future__ import annotations

PILLOW = (".png", ".jpg", ".jpeg")
TIFF = (".tif", ".tiff", ".btf", ".qptiff")
OPENSLIDE = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
SUFFIXES = (*TIFF, *OPENSLIDE, *PILLOW)
