"""Gene by gene, and on the tissue."""

from __future__ import annotations

import numpy as np
import pandas as pd

from agl.analysis.gene_sets import runs_set_scores
from agl.analysis.results import difference_matrix, gene_abundance, gene_means, gene_predictability, gene_reach
from agl.errors import UserError
from agl.reporting.figures.genes import Pair, draw_bars, draw_profit, draw_scatter
from agl.reporting.figures.maps import draw_maps
from agl.reporting.figures.reach import draw_predictability, draw_reach
from agl.reporting.inputs import RunBlock
from agl.reporting.parts import FOLD_FROM, PageSection, Table, Text, number, write_csv
from agl.reporting.style import file_name


def genes(block: RunBlock) -> PageSection:
    """How far every gene is from its ceiling; gene by gene against the baseline, and who profits."""
    section = PageSection("Genes")
    reach = gene_reach(block.cells, block.method)
    if len(reach):
        section.items.append(draw_reach(reach, block.method, block.name, block.styles[block.method], block.figures))
    foreseen = gene_predictability(block.cells, block.method)
    if len(foreseen) > 2:
        style = block.styles[block.method]
        section.items.append(draw_predictability(foreseen, block.method, block.name, style, block.figures))
    if block.options.gene_sets:
        section.items += gene_sets(block)
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


def gene_sets(block: RunBlock) -> list[Table | Text]:
    """The score of each set's mean beside its genes', and which of the primary genes are in it."""
    runs = [run for run, name in zip(block.results.runs, block.results.frame.block, strict=True) if name == block.name]
    try:
        found = runs_set_scores(runs, block.options.gene_sets)
    except UserError as error:
        return [Text(f"Gene sets: {error}", warning=True)]
    csv = write_csv(block.folder, file_name("gene-sets", block.name), found.drop(columns="block"))
    shown = found[found.method == block.method].sort_values("scc", ascending=False, kind="stable")
    rows = {
        "set": shown.set,
        "SCC of its mean": [number(value) for value in shown.scc],
        "mean SCC of its genes": [number(value) for value in shown.genes_scc],
        "primary genes": shown.members,
        "genes in the file": shown["size"].astype(str),
    }
    note = (
        f"{block.method}. A set's mean is that of log-normalised expression, and of predicted scores, standardised "
        "inside the slide; averaged over slides, seeds and folds. Sets with fewer than two primary genes are left out."
    )
    table = pd.DataFrame(rows).astype(str).reset_index(drop=True)
    return [Table("Gene sets", table, note=note, csv=csv, folded=len(table) > FOLD_FROM)]


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
