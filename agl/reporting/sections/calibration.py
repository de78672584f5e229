"""Whether a committee's spread says where it is wrong."""

from __future__ import annotations

import pandas as pd

from agl.analysis.calibration import CHANCE, calibrations
from agl.reporting.figures.calibration import draw_calibration
from agl.reporting.inputs import RunBlock
from agl.reporting.parts import PageSection, Table, Text, number, write_csv
from agl.reporting.style import file_name


def calibration(block: RunBlock) -> PageSection:
    """Of runs that kept the spread of their members: error by spread, and how the two correlate."""
    section = PageSection("Spread of the committee")
    found, notes = calibrations(block.results, block.name)
    section.items += [Text(note, warning=True) for note in notes]
    for method, each in found.items():
        section.items.append(draw_calibration(each, method, block.name, block.styles[method], block.figures))
        csv = write_csv(block.folder, file_name("calibration", block.name, method), each.slides)
        bins = each.bins
        rows = pd.DataFrame(
            {
                "tenth": [str(value) for value in bins.bin],
                "spread": [number(value) for value in bins.spread],
                "error": [number(value) for value in bins.error],
                "same predicted tenth": [number(value) for value in bins.same_place],
            }
        )
        note = (
            f"Spearman correlation of spread and error, mean over slides: {number(each.slides.correlation.mean())}; of "
            f"spread and what is beyond spots of the same predicted tenth: {number(each.slides.beyond_place.mean())}. "
            f"Places at random have an error of {number(CHANCE)}. The file has every slide."
        )
        section.items.append(Table(f"Error by spread, {method}", rows, note=note, csv=csv, folded=True))
    return section
