"""Gene by gene, and on the tissue."""

from __future__ import annotations

import numpy as np
import pandas as pd

from agl.analysis.results import difference_matrix, gene_abundance, gene_means, gene_reach
from agl.reporting.figures.genes import Pair, draw_bars, draw_profit, draw_scatter
from agl.reporting.figures.maps import draw_maps
from agl.reporting.figures.reach import draw_reach
from agl.reporting.inputs import RunBlock
from agl.reporting.parts import PageSection, Text, write_csv
from agl.reporting.style import file_name


def genes(block: RunBlock) -> PageSection:
    """How far every gene is from its ceiling; gene by gene against the baseline, and who profits."""
    section = PageSection("Genes")
    reach = gene_reach(block.cells, block.method)
    if len(reach):
        section.items.append(draw_reach(reach, block.method, block.name, block.styles[block.method], block.figures))
    if block.reference is None or block.cells.empty:
        return section
    of = block.reference.of
    order = [name for name in block.results.methods(block.name) if name in of]
    order = [name for name in order if name == block.method] + [name for name in order if name != block.method]
    pairs = [pair for pair in (_pair(block, name, of[name]) for name in order) if len(pair.table)]
    if not pairs:
        return section
    whole = pd.concat([pair.table.reset_index().assign(compared=pair.method) for pair in pairs])
    write_csv(block.folder, file_name("genes", block.name), whole)
    section.items.append(draw_scatter(pairs, block.name, block.styles, block.figures))
    section.items.append(draw_bars(pairs[0], block.name, block.figures))
    section.items.append(draw_profit(pairs[0], block.name, block.styles, block.figures))
    return section


def maps(block: RunBlock) -> PageSection:
    """Observed, predicted, residual."""
    section = PageSection("Tissue maps")
    if block.cells[block.cells.method == block.method].empty:
        return section
    drawn, notes = draw_maps(
        block.results, block.name, block.method, block.figures, genes=block.options.genes, slides=block.options.slides
    )
    section.items += [*drawn, *(Text(note, warning=True) for note in notes)]
    if drawn and not block.options.genes:
        words = f"Genes shown: those that {block.method} scores highest, in the middle and lowest on each slide."
        section.items.insert(0, Text(words))
    return section


def _pair(block: RunBlock, method: str, baseline: str) -> Pair:
    matrix, _ = difference_matrix(block.cells, method, baseline)
    means = gene_means(block.cells)
    table = means[[baseline, method]].set_axis(["baseline", "method"], axis=1)
    table = table.join(matrix.mean().rename("difference")).join(gene_abundance(block.cells))
    return Pair(method, baseline, table[np.isfinite(table.difference)])
