"""The sections about scores: tables, differences, genes, maps, selections of one block of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from agl.analysis.comparisons import Comparisons, compare
from agl.analysis.material import difference_matrix, gene_abundance, gene_means
from agl.analysis.methods import matched_reference
from agl.analysis.selection import chosen_genes, selections, stability, stability_words
from agl.analysis.statistics import TOO_SMALL
from agl.analysis.tables import METHOD, best_rows, mean_sd, methods_frame
from agl.report.block import Block
from agl.report.content import Section, Table, Text, number, span, write_csv
from agl.report.figures_genes import Pair, draw_bars, draw_profit, draw_scatter
from agl.report.figures_scores import draw_differences, draw_scores
from agl.report.figures_selection import draw_chosen, draw_mask, draw_stability, draw_trajectory
from agl.report.figures_stain import draw_stains, learned_vectors
from agl.report.maps import draw_maps
from agl.report.style import file_name
from agl.runs.folder import Run

FOLD_FROM = 16  # rows from which a table is folded
MOST_ROWS = 30
TOP_GENES = 25


def scores(block: Block) -> Section:
    """Main table and figure."""
    methods = methods_frame(block.frame)
    methods = methods.merge(block.frame.drop_duplicates("method")[[*METHOD, "method"]], on=list(METHOD))
    methods = methods.sort_values("scc", ascending=False, kind="stable").reset_index(drop=True)
    best = {score: best_rows(methods, score) for score in ("scc", "pcc", "scc_pooled", "pcc_pooled")}
    titles = {"scc": "SCC per slide", "pcc": "PCC per slide", "scc_pooled": "SCC pooled", "pcc_pooled": "PCC pooled"}
    rows = [
        {
            "method": r["method"],
            **{title: mean_sd(r[score], r[f"{score}_sd"]) for score, title in titles.items()},
            "± folds": number(r["scc_sd_folds"]),
            "± seeds": number(r["scc_sd_seeds"]),
            "runs": f"{r['runs']} ({r['folds']} × {r['seeds']})",
            "undefined": f"{r['undefined']}/{r['pairs']}",
        }
        for r in methods.to_dict("records")
    ]
    note = (
        "Mean over folds (a fold's seeds are averaged first) ± sample standard deviation over all runs (folds × "
        "seeds); ± folds and ± seeds take the SCC's spread apart. Bold: the highest mean, which is no claim; see "
        "Differences. Undefined: (slide, gene) scores that do not exist, left out of means."
    )
    csv = write_csv(block.folder, file_name("methods", block.name), methods)
    write_csv(block.folder, file_name("runs", block.name), block.frame)
    bold = frozenset((int(i), titles[score]) for score, where in best.items() for i in where)
    section = Section("Scores")
    if methods.optimistic.any():
        section.items.append(Text("Optimistic split: spots beside the test spots were trained on.", warning=True))
    if block.frame.drop_duplicates(["method", "fold"]).groupby("method").size().nunique() > 1:
        words = "Not every method has run on every fold: the means are of different folds. Differences are paired."
        section.items.append(Text(words, warning=True))
    left = f" The first {MOST_ROWS} of {len(rows)} methods; the file has them all." if len(rows) > MOST_ROWS else ""
    section.items.append(Table("", pd.DataFrame(rows[:MOST_ROWS]), bold, note + left, csv))
    if len(methods) > 1:
        section.items.append(draw_scores(block.frame, block.name, list(methods.method), block.look, block.figures))
    return section


def differences(block: Block) -> tuple[Section, list[Comparisons]]:
    """Paired differences from the baseline, and of auxiliary genes from none."""
    section, found = Section("Differences"), []
    matched = matched_reference(block.frame)
    asked = [(block.reference, "differences")]
    if matched is not None and (block.reference is None or matched.of != block.reference.of):
        asked.append((matched, "differences-matched"))
    for reference, name in asked:
        if reference is None or block.cells.empty:
            continue
        compared = compare(block.material, block.name, reference, unit=block.wishes.unit)
        if compared.table.empty:
            continue
        found.append(compared)
        against = reference.words if name == "differences" else "the same method without auxiliary genes"
        file = file_name(name, block.name)
        csv = write_csv(block.folder, file, compared.table)
        section.items.append(_difference_table(compared, f"Against {against}", csv, several=reference.of))
        if (compared.table.n > 0).any():
            section.items.append(draw_differences(compared, file, against, block.look, block.figures))
    if found:
        section.items.insert(0, Text(found[0].words + " " + _STATISTICS))
        if int(found[0].table.n.max()) < 6:
            n, unit = int(found[0].table.n.max()), found[0].unit
            words = (
                f"n too small: with {n} {unit}{'s' * (n != 1)} no test can reach p < 0.05 and no interval over {unit}s "
                "is given. What follows describes these data; it is no evidence for others."
            )
            section.items.insert(1, Text(words, warning=True))
    else:
        section.items.append(
            Text("There is nothing to compare: a single method, or none shares a fold with its baseline.")
        )
    return section, found


_STATISTICS = (
    "Differences are paired by fold, slide, gene and seed, then averaged over seeds, genes, slides and units, in this "
    "order. p: Wilcoxon's signed-rank test over units, exact, two-sided, corrected by Holm over the rows of a table. "
    "Intervals: 95%, expanded percentile bootstrap, 4,000 resamples, over units, over genes (these slides only), and "
    "over both at once. Folds share training spots, which no test here accounts for."
)


def genes(block: Block) -> Section:
    """Gene by gene, and who profits."""
    section = Section("Genes")
    if block.reference is None or block.cells.empty:
        return section
    of = block.reference.of
    order = [name for name in block.material.methods(block.name) if name in of]
    order = [name for name in order if name == block.method] + [name for name in order if name != block.method]
    pairs = [pair for pair in (_pair(block, name, of[name]) for name in order) if len(pair.table)]
    if not pairs:
        return section
    whole = pd.concat([pair.table.reset_index().assign(compared=pair.method) for pair in pairs])
    write_csv(block.folder, file_name("genes", block.name), whole)
    section.items.append(draw_scatter(pairs, block.name, block.look, block.figures))
    section.items.append(draw_bars(pairs[0], block.name, block.figures))
    section.items.append(draw_profit(pairs[0], block.name, block.look, block.figures))
    return section


def maps(block: Block) -> Section:
    """Observed, predicted, residual."""
    section = Section("Tissue maps")
    if block.cells[block.cells.method == block.method].empty:
        return section
    drawn, notes = draw_maps(
        block.material, block.name, block.method, block.figures, genes=block.wishes.genes, slides=block.wishes.slides
    )
    section.items += [*drawn, *(Text(note, warning=True) for note in notes)]
    if drawn and not block.wishes.genes:
        words = f"Genes shown: those that {block.method} scores highest, in the middle and lowest on each slide."
        section.items.insert(0, Text(words))
    return section


def selection(block: Block) -> Section:
    """What learned selectors chose."""
    section = Section("Learned selection")
    found, notes = selections(block.material, block.name)
    for each in found:
        style = block.look[each.method]
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
    section.items[:0] = [Text(note, warning=True) for note in notes]
    return section


def stains(block: Block) -> Section:
    """Stain vectors, where a model learnt some."""
    section = Section("Learned stains")
    for method in block.material.methods(block.name):
        frame = block.frame[block.frame.method == method]
        vectors = learned_vectors([Run(Path(folder)) for folder in frame.folder])
        if vectors.empty:
            continue
        write_csv(block.folder, file_name("stains", block.name, method), vectors)
        scores = block.cells[block.cells.method == method].groupby("gene").scc.mean().sort_values(ascending=False)
        section.items.append(draw_stains(vectors, list(scores.index), method, block.name, block.figures))
    return section


def _difference_table(compared: Comparisons, title: str, csv: str, *, several: dict[str, str]) -> Table:
    unit = compared.unit
    counterparts = len(set(several.values())) > 1
    rows = [
        {
            "method": r["method"],
            **({"against": r["baseline"]} if counterparts else {}),
            "ΔSCC": number(r["difference"], sign=True),
            f"over {unit}s": span(r["units_low"], r["units_high"]),
            "over genes": span(r["genes_low"], r["genes_high"]),
            "over both": span(r["both_low"], r["both_high"]),
            "p": number(r["p"]),
            "p (Holm)": number(r["p_holm"]),
            "higher in": f"{r['better']}/{r['n']}",
            "claim": TOO_SMALL if r["verdict"].startswith(TOO_SMALL) else r["verdict"],
        }
        for r in compared.table.to_dict("records")
    ]
    n = compared.table
    small = [words for words in dict.fromkeys(compared.table.verdict) if words.startswith(f"{TOO_SMALL} for")]
    shown = pd.DataFrame(rows)
    shown = shown.loc[:, (shown != "–").any()]  # no column of dashes where n is too small for every row
    note = (
        f"higher in: {unit}s whose mean difference is positive. {_range(n.slides)} slides, {_range(n.genes)} genes; "
        f"{', '.join(dict.fromkeys(n.seeds))}." + "".join(f" {words[0].upper()}{words[1:]}." for words in small)
    )
    return Table(title, shown, note=note, csv=csv, folded=len(rows) > FOLD_FROM)


def _pair(block: Block, method: str, baseline: str) -> Pair:
    matrix, _ = difference_matrix(block.cells, method, baseline)
    means = gene_means(block.cells)
    table = means[[baseline, method]].set_axis(["baseline", "method"], axis=1)
    table = table.join(matrix.mean().rename("difference")).join(gene_abundance(block.cells))
    return Pair(method, baseline, table[np.isfinite(table.difference)])


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


def _range(values: Sequence[int] | pd.Series) -> str:
    low, high = int(min(values)), int(max(values))
    return str(low) if low == high else f"{low} to {high}"
