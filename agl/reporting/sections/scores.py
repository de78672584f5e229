"""The mean and spread of every method, as a table and a figure."""

from __future__ import annotations

import numpy as np
import pandas as pd

from agl.analysis.tables import METHOD, OF_REACHABLE, best_rows, mean_sd, methods_frame, nuisance_words, percent
from agl.nuisances import NUISANCES
from agl.reporting.figures.scores import draw_scores
from agl.reporting.inputs import RunBlock
from agl.reporting.parts import PageSection, Table, Text, number, write_csv
from agl.reporting.style import file_name

MOST_ROWS = 30


def scores(block: RunBlock) -> PageSection:
    """Main table and figure."""
    methods = methods_frame(block.frame)
    methods = methods.merge(block.frame.drop_duplicates("method")[[*METHOD, "method"]], on=list(METHOD))
    methods = methods.sort_values("scc", ascending=False, kind="stable").reset_index(drop=True)
    best = {score: best_rows(methods, score) for score in ("scc", "pcc", "scc_pooled", "pcc_pooled")}
    titles = {"scc": "SCC per slide", "pcc": "PCC per slide", "scc_pooled": "SCC pooled", "pcc_pooled": "PCC pooled"}
    reachable = bool(methods.share.notna().any())
    rows = [
        {
            "method": r["method"],
            **{title: mean_sd(r[score], r[f"{score}_sd"]) for score, title in titles.items()},
            **({OF_REACHABLE: percent(r["share"])} if reachable else {}),
            "± folds": number(r["scc_sd_folds"]),
            "± seeds": number(r["scc_sd_seeds"]),
            "runs": f"{r['runs']} ({r['folds']} × {r['seeds']})",
            "undefined": f"{r['undefined']}/{r['pairs']}",
        }
        for r in methods.to_dict("records")
    ]
    note = (
        "Mean over folds (a fold's seeds are averaged first) ± sample standard deviation over all runs (folds × "
        "seeds). Bold: the highest mean, which is no claim."
    )
    if (methods.seeds > 1).any():
        note += " ± folds and ± seeds take the SCC's spread apart."
    if methods.undefined.any():
        note += " Undefined: (slide, gene) scores that do not exist, left out of means."
    if reachable:
        note += (
            f" Of reachable: the SCC over its noise ceiling ({number(float(methods.ceiling.mean()))} on average), "
            "the SCC that the true expression itself would have with counts this noisy."
        )
    shown = pd.DataFrame(rows)
    if not (methods.seeds > 1).any():
        shown = shown.drop(columns=["± folds", "± seeds"])
    if not methods.undefined.any():
        shown = shown.drop(columns="undefined")
    if np.allclose(methods[["scc", "pcc"]], methods[["scc_pooled", "pcc_pooled"]], equal_nan=True):
        shown = shown.drop(columns=["SCC pooled", "PCC pooled"])
        note += " A fold has one test slide, so scores pooled over a fold's spots are the same."
    csv = write_csv(block.folder, file_name("methods", block.name), methods)
    write_csv(block.folder, file_name("runs", block.name), block.frame)
    shown = shown.loc[:, (shown != "–").any()]
    bold = frozenset((int(i), titles[score]) for score, where in best.items() for i in where if titles[score] in shown)
    section = PageSection("Scores")
    if methods.optimistic.any():
        section.items.append(Text("Optimistic split: spots beside the test spots were trained on.", warning=True))
    if block.frame.drop_duplicates(["method", "fold"]).groupby("method").size().nunique() > 1:
        words = "Not every method has run on every fold: the means are of different folds. Differences are paired."
        section.items.append(Text(words, warning=True))
    beside = nuisance_words(block.frame.groupby("fold", dropna=False)[[*NUISANCES]].mean().mean().to_frame().T)[0]
    if beside:
        words = (
            f"Without any model, on the same spots and genes: SCC {beside}. Depth is the log library size itself; the "
            "others are fitted to the training spots. What a model adds to these is what it saw."
        )
        section.items.append(Text(words))
    left = f" The first {MOST_ROWS} of {len(rows)} methods; the file has them all." if len(rows) > MOST_ROWS else ""
    section.items.append(Table("", shown.head(MOST_ROWS), bold, note + left, csv))
    if len(methods) > 1:
        section.items.append(draw_scores(block.frame, block.name, list(methods.method), block.styles, block.figures))
    return section
