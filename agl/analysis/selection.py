"""What learned selectors chose: panels and histories of their runs, and how much two runs agree."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from agl.analysis.results import Results
from agl.errors import UserError
from agl.places import regular_file

FOLLOWED = 0.3  # rank correlation from which weights follow a prior
CHOSEN = 0.5  # a weight from which a gene counts as chosen, as in a selector's k


@dataclass(frozen=True)
class Selection:
    """The runs of one learned method.

    Attributes:
        method: its name.
        runs: [run] fold and seed, indexed by the run's position.
        histories: one row a run and epoch; run, fold, seed, epoch and every number the trainer recorded.
        weights: [gene, run] final weights of the auxiliary genes, NaN where a gene was no candidate of that run.
        priors: [gene, prior] means over the runs; no columns where the panels hold none.
    """

    method: str
    runs: pd.DataFrame
    histories: pd.DataFrame
    weights: pd.DataFrame
    priors: pd.DataFrame

    @property
    def chosen(self) -> pd.DataFrame:
        """[gene, run] whether a gene was chosen; a gene that was no candidate was not."""
        return self.weights >= CHOSEN


def selections(results: Results, block: str) -> tuple[list[Selection], list[str]]:
    """Every method of a block whose runs recorded k, and sentences about what could not be read."""
    found: list[Selection] = []
    notes: list[str] = []
    here = results.frame[results.frame.block == block]
    for method in results.methods(block):
        runs = here[here.method == method].sort_values(["fold", "seed"])[["fold", "seed"]]
        histories = {int(run): _history(results.runs[int(run)].folder, notes) for run in runs.index}
        learned = {run: table for run, table in histories.items() if "k" in table}
        if not learned:
            continue
        panels = {run: _panel(results.runs[run].folder, notes) for run in learned}
        notes += _unlike(method, {run: results.runs[run].result.get("k") for run in panels}, panels)
        tables = [t.assign(run=r, fold=runs.fold[r], seed=runs.seed[r]) for r, t in learned.items()]
        weights = pd.DataFrame({run: panel.weight for run, panel in panels.items()})
        found.append(
            Selection(method, runs.loc[list(learned)], pd.concat(tables, ignore_index=True), weights, _priors(panels))
        )
    return found, notes


def chosen_genes(selection: Selection) -> pd.DataFrame:
    """One row a gene that any run chose: in how many runs, its mean weight, its priors; most often chosen first."""
    table = pd.DataFrame(
        {
            "chosen_in": selection.chosen.sum(axis=1),
            "candidate_in": selection.weights.notna().sum(axis=1),
            "mean_weight": selection.weights.mean(axis=1),
        }
    ).join(selection.priors)
    table = table[table.chosen_in > 0].sort_values(["chosen_in", "mean_weight"], ascending=False, kind="stable")
    return table.rename_axis("gene").reset_index()


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Genes in both over genes in either; NaN where both chose nothing.

    >>> jaccard(np.array([True, True, False]), np.array([True, False, True]))
    0.3333333333333333
    """
    either = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / either) if either else float("nan")


def chance_jaccard(k: int, other: int, candidates: int) -> float:
    """About what two random choices of these sizes share: k x other / candidates genes are in both.

    >>> round(chance_jaccard(10, 10, 100), 4)
    0.0526
    """
    if candidates == 0 or k + other == 0:
        return float("nan")
    both = k * other / candidates
    return both / (k + other - both)


def stability(selection: Selection) -> pd.DataFrame:
    """One row a pair of runs: their folds and seeds, what they share, its Jaccard index, and that of chance."""
    chosen, runs = selection.chosen, selection.runs
    rows = []
    order = list(chosen.columns)
    for i, a in enumerate(order):
        for b in order[i + 1 :]:
            one, two = chosen[a].to_numpy(), chosen[b].to_numpy()
            candidates = int((selection.weights[a].notna() | selection.weights[b].notna()).sum())
            same_fold, same_seed = runs.fold[a] == runs.fold[b], runs.seed[a] == runs.seed[b]
            between = "seeds" if same_fold else "folds" if same_seed else "both"
            rows.append(
                {
                    "between": between, "run_a": a, "run_b": b, "fold_a": runs.fold[a], "fold_b": runs.fold[b],
                    "seed_a": runs.seed[a], "seed_b": runs.seed[b], "k_a": int(one.sum()), "k_b": int(two.sum()),
                    "shared": int((one & two).sum()), "jaccard": jaccard(one, two),
                    "chance": chance_jaccard(int(one.sum()), int(two.sum()), candidates),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def stability_words(pairs: pd.DataFrame) -> str:
    """Mean agreement in a sentence."""
    if pairs.empty:
        return "One run: nothing to compare its choice with."
    words = {"seeds": "seeds of one fold", "folds": "folds of one seed", "both": "folds and seeds that both differ"}
    means = pairs.groupby("between")[["jaccard", "chance"]].mean()
    parts = [
        f"{means.jaccard[kind]:.2f} between {said} (chance: {means.chance[kind]:.2f})"
        for kind, said in words.items()
        if kind in means.index
    ]
    return f"Mean Jaccard index of the chosen genes: {', '.join(parts)}."


def leading_prior(selection: Selection) -> str | None:
    """The prior whose ranking the mean weights follow most closely; None where there is none they follow."""
    weight = selection.weights.mean(axis=1)
    if selection.priors.empty or weight.nunique() < 2:
        return None
    follows = selection.priors.corrwith(weight, method="spearman").abs().dropna()
    return str(follows.idxmax()) if len(follows) and follows.max() >= FOLLOWED else None


def _unlike(method: str, ends: dict[int, int | None], panels: dict[int, pd.DataFrame]) -> list[str]:
    """A sentence where panels do not hold the weights that their runs ended with."""
    found = {run: int((panel.weight >= CHOSEN).sum()) for run, panel in panels.items()}
    unlike = [(k, found[run]) for run, k in ends.items() if k is not None and k != found[run]]
    if not unlike:
        return []
    k, chosen = unlike[0]
    return [
        f"{method}: in {len(unlike)} of {len(panels)} runs panel.csv does not hold the weights that training ended "
        f"with (k = {k}, but {chosen} genes of weight 0.5 or more): the chosen genes below are of an earlier state."
    ]


def _history(folder: Path, notes: list[str]) -> pd.DataFrame:
    """One row an epoch of the search; of the training where both were one."""
    search = folder / "selection.jsonl"
    path = search if search.is_file() else folder / "history.jsonl"
    if not path.is_file():
        return pd.DataFrame()
    try:
        return pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line])
    except ValueError as error:
        notes.append(f"{folder.name}: {path.name} is not readable ({error})")
        return pd.DataFrame()


def _panel(folder: Path, notes: list[str]) -> pd.DataFrame:
    """[auxiliary gene] weight and priors."""
    path = folder / "panel.csv"
    try:
        regular_file(path, "the genes of a run")
        table = pd.read_csv(path, dtype={"gene": str, "role": str}, keep_default_na=False, na_values=[""])
        return table[table.role == "auxiliary"].set_index("gene").drop(columns="role")
    except (UserError, OSError, ValueError, AttributeError, KeyError) as error:
        notes.append(f"{folder.name}: panel.csv is not readable ({error})")
        return pd.DataFrame({"weight": []})


def _priors(panels: dict[int, pd.DataFrame]) -> pd.DataFrame:
    tables = [panel.drop(columns="weight").select_dtypes("number") for panel in panels.values()]
    joined = pd.concat(tables)
    return joined.groupby(level=0).mean() if len(joined.columns) else pd.DataFrame(index=joined.index.unique())
