"""How large the pixels of a TIFF are: OME's metadata, Aperio's line, else the resolution tags."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from agl.preparing.images.image import plausible

_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "pm": 1e-6}
_OF_UNIT = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}  # um: inch, cm, mm, um
_APERIO = re.compile(r"\bMPP\s*=\s*([0-9.]+)")


def um_per_px(file: Any, page: Any) -> float | None:
    """Of the full image; None where nothing says it, or only a screen's resolution."""
    for found in (_ome(file.ome_metadata), _aperio(page.description), _resolution(page)):
        if (value := plausible(found)) is not None:
            return value
    return None


def _ome(metadata: str | None) -> float | None:
    """`PhysicalSizeX` of the first image.

    >>> _ome('<OME><Image><Pixels PhysicalSizeX="250" PhysicalSizeXUnit="nm"/></Image></OME>')
    0.25
    """
    if not metadata:
        return None
    try:
        tree = ElementTree.fromstring(metadata)
    except ElementTree.ParseError:
        return None
    for node in tree.iter():
        if node.tag.split("}")[-1] == "Pixels" and "PhysicalSizeX" in node.attrib:
            try:
                return float(node.attrib["PhysicalSizeX"]) * _UM.get(node.get("PhysicalSizeXUnit", "µm"), float("nan"))
            except ValueError:
                return None
    return None


def _aperio(description: str | None) -> float | None:
    """
    >>> _aperio("Aperio Image Library |AppMag = 40|MPP = 0.2520")
    0.252
    """
    found = _APERIO.search(description or "")
    try:
        return float(found.group(1)) if found else None
    except ValueError:
        return None


def _resolution(page: Any) -> float | None:
    tags = page.tags
    unit = _OF_UNIT.get(int(tags["ResolutionUnit"].value)) if "ResolutionUnit" in tags else _OF_UNIT[2]
    if unit is None or "XResolution" not in tags:
        return None
    above, below = tags["XResolution"].value
    return unit * below / above if above else None
