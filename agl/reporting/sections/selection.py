"""What was learned beside the scores: which genes a selector chose, which stains a model found."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from agl.analysis.curves import curves, signals
from agl.analysis.selection import chosen_genes, selections, stability, stability_words
from agl.reporting.figures.curves import draw_curve
from agl.reporting.figures.selection import draw_chosen, draw_mask, draw_stability, draw_trajectory
from agl.reporting.figures.stains import draw_stains, learned_vectors
from agl.reporting.inputs import RunBlock
from agl.reporting.parts import PageSection, Table, Text, number, write_csv
from agl.reporting.style import file_name
from agl.runs.folder import Run

TOP_GENES = 25


def selection(block: RunBlock) -> PageSection:
    """What learned selectors chose."""
    section = PageSection("Learned selection")
    found, notes = selections(block.results, block.name)
    for each in found:
        style = block.styles[each.method]
        chosen = chosen_genes(each)
        pairs = stability(each)
        csv = write_csv(block.folder, file_name("chosen", block.name, each.method), chosen)
        drawn = [
            draw_trajectory(each, block.name, style, block.figures),
            draw_mask(each, block.name, block.figures),
            draw_stability(each, block.name, block.figures),
            draw_chosen(each, chosen, block.name, style, block.figures),
        ]
        section.items += [figure for figure in drawn if figure is not None]
        if drawn[2] is None:
            section.items.append(Text(stability_words(pairs)))
        if len(pairs):
            write_csv(block.folder, file_name("stability", block.name, each.method), pairs)
        if len(chosen):
            section.items.append(_chosen_table(each.method, chosen, csv))
    signal = signals(block.results, block.name)
    for method, table in curves(block.results, block.name).items():
        section.items.append(draw_curve(table, method, block.name, block.styles[method], block.figures))
        section.items.append(_signal_table(method, signal[method]))
    section.items[:0] = [Text(note, warning=True) for note in notes]
    return section


def stains(block: RunBlock) -> PageSection:
    """Stain vectors, where a model learnt some."""
    section = PageSection("Learned stains")
    for method in block.results.methods(block.name):
        frame = block.frame[block.frame.method == method]
        vectors = learned_vectors([Run(Path(folder)) for folder in frame.folder])
        if vectors.empty:
            continue
        write_csv(block.folder, file_name("stains", block.name, method), vectors)
        scores = block.cells[block.cells.method == method].groupby("gene").scc.mean().sort_values(ascending=False)
        section.items.append(draw_stains(vectors, list(scores.index), method, block.name, block.figures))
    return section


def _signal_table(method: str, table: pd.DataFrame) -> Table:
    """Run by run, which ks are as good as the best, and whether any gene helps more than planted ones do."""
    rows = pd.DataFrame(
        {
            "fold": table.fold.astype(str),
            "seed": table.seed.astype(str),
            "best k": table.best_k.astype(str),
            "as good": [f"{a} … {b}" for a, b in zip(table.as_good_from, table.as_good_to, strict=True)],
            "signal": ["not asked" if pd.isna(word) else str(word) for word in table.outer_signal],
            "genes that stand out": ["–" if pd.isna(n) else f"{int(n)}" for n in table.discoveries],
        }
    )
    note = (
        "As good: within one standard error of the best k, paired by left-out slide. Clear: some genes help the "
        "primary ones more than planted genes do, whose counts were turned about the centre of their slides (false "
        "discovery rate 5 %); single ones among them may be noise."
    )
    return Table(f"What {method} had to learn from", rows, note=note, folded=len(rows) > 12)


def _chosen_table(method: str, chosen: pd.DataFrame, csv: str) -> Table:
    top = chosen.head(TOP_GENES)
    priors = [name for name in top.columns if name not in ("gene", "chosen_in", "candidate_in", "mean_weight")]
    rows = pd.DataFrame(
        {
            "gene": top.gene,
            "chosen in": [f"{a}/{b}" for a, b in zip(top.chosen_in, top.candidate_in, strict=True)],
            "mean weight": [number(value, 2) for value in top.mean_weight],
            **{name: [number(value) for value in top[name]] for name in priors},
        }
    )
    note = f"The {len(top)} most often chosen of {len(chosen)} genes that any run chose." + (
        " Priors are means over the runs." if priors else " The panels of these runs hold no priors."
    )
    return Table(f"Genes that {method} chose", rows, note=note, csv=csv, folded=True)
