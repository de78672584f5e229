"""What `agl recommend` found, as frames and sentences: for the terminal and the page alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agl.analysis import statistics as st
from agl.analysis.intervals import unit_differences
from agl.analysis.results import Results, read_results
from agl.analysis.units import Unit, choose_unit, left_out_level
from agl.errors import UserError
from agl.studies.options import Options, options_of
from agl.studies.recommend import ANSWER, CHOSEN, CONTROL, DEFAULT, RIDGE, runs_of

QUESTIONS = {
    "encoder": "which encoder",
    "context": "spots around",
    "normalise": "features relative to",
    "loss": "loss",
    "genes": "auxiliary genes",
}


@dataclass(frozen=True)
class Advice:
    """The answer.

    Attributes:
        options: one row a question and answer: question, answer, difference (from the simplest answer, mean over the
            answers to all other questions, on left-out training slides), higher (units), n, folds (in how many it was
            chosen inside), of, chosen (from all spots).
        methods: one row a method: method, scc (mean over folds, test spots), share (of reachable), difference (from
            ridge, paired), higher, n, p, verdict.
        unit: what n counts in `methods`.
        inner: what n counts in `options`.
        words: the whole in sentences.
        cautions: what may not be concluded.
    """

    options: pd.DataFrame
    methods: pd.DataFrame
    unit: str
    inner: str
    words: list[str]
    cautions: list[str]


def read_findings(folder: Path) -> Advice:
    """The findings of a folder that `agl recommend` wrote."""
    file = folder / ANSWER
    if not file.is_file():
        raise UserError(f"Expected {ANSWER} in {folder}, found none. Run `agl recommend PATH` to the end.")
    answer = json.loads(file.read_text())
    options = options_frame(answer)
    results = read_results(runs_of(folder, answer))
    methods, unit = methods_frame(results, answer["runs"])
    inner = str(answer["final"]["unit"])
    words = _words(answer, options, methods, unit)
    return Advice(options, methods, unit.name, inner, words, [*answer["notes"], *_cautions(methods, unit)])


def options_frame(answer: Mapping[str, Any]) -> pd.DataFrame:
    """One row a question and answer."""
    options: Options = options_of(answer["factors"])
    final, folds = answer["final"], answer["folds"]
    scores = np.asarray(final["scores"], dtype=float)
    rows = []
    for position, factor in enumerate(options.factors):
        by_unit = options.by_factor(scores, position)
        for number, name in enumerate(factor.answers):
            gain = by_unit[number] - by_unit[0]
            gain = gain[np.isfinite(gain)]
            rows.append(
                {
                    "question": factor.name,
                    "answer": name,
                    "difference": float(gain.mean()) if number and len(gain) else float("nan"),
                    "higher": int((gain > 0).sum()),
                    "n": len(gain),
                    "folds": sum(fold["answers"][factor.name] == name for fold in folds),
                    "of": len(folds),
                    "chosen": final["answers"][factor.name] == name,
                }
            )
    return pd.DataFrame(rows)


def methods_frame(results: Results, runs: list[dict[str, str]]) -> tuple[pd.DataFrame, Unit]:
    """One row a method; what n counts.

    Args:
        runs: method, fold and run (the name of its folder) of every run; one run may stand for several methods.
    """
    position = {run.folder.name: i for i, run in enumerate(results.runs)}
    slides = sorted(set(results.cells.slide))
    patients = {slide: name for of_block in results.patients.values() for slide, name in of_block.items()}
    splits = [split for block in results.blocks for split in results.splits(block)]
    unit = choose_unit(slides, patients, left_out=left_out_level(splits, patients))
    unit_of = {slide: patients[slide] if unit.name == "patient" else slide for slide in slides}
    tables, rows = {}, []
    for method in dict.fromkeys(each["method"] for each in runs):
        mine = [position[each["run"]] for each in runs if each["method"] == method]
        cells = results.cells[results.cells.run.isin(mine)]
        tables[method] = cells.groupby(["slide", "gene"]).scc.mean().unstack("gene")
        numbers = results.frame.iloc[mine]
        row = {"method": method, "scc": numbers.scc.mean(), "share": numbers.share.mean()}
        compared = method not in (RIDGE, CONTROL)
        rows.append(row | _against(tables[method], tables[RIDGE], unit_of, unit.bar, compared=compared))
    return pd.DataFrame(rows), unit


def _against(
    mine: pd.DataFrame, theirs: pd.DataFrame, unit_of: Mapping[str, str], bar: str, *, compared: bool
) -> dict[str, Any]:
    """The paired difference over units, and what it may claim."""
    nothing: dict[str, Any] = {"difference": np.nan, "higher": 0, "n": 0, "p": np.nan, "verdict": ""}
    matrix = (mine - theirs).dropna(how="all").dropna(how="all", axis=1)
    if not compared or matrix.empty:
        return nothing
    codes = np.unique([unit_of[slide] for slide in matrix.index], return_inverse=True)[1]
    by_unit = unit_differences(matrix.to_numpy(float), codes)
    by_unit = by_unit[np.isfinite(by_unit)]
    n, mean = len(by_unit), float(by_unit.mean())
    p = st.signed_rank(by_unit)
    verdict = st.verdict(n, 1, p, mean, bar=bar)
    return {"difference": mean, "higher": int((by_unit > 0).sum()), "n": n, "p": p, "verdict": verdict}


def _words(answer: Mapping[str, Any], options: pd.DataFrame, methods: pd.DataFrame, unit: Unit) -> list[str]:
    final, recommended = answer["final"], answer["recommended"]["method"]
    told = ", ".join(f"{QUESTIONS[name]} {value}" for name, value in final["answers"].items())
    rows: dict[Any, Any] = methods.set_index("method").to_dict("index")
    meaning = {
        RIDGE: "ridge. Nothing tried here is better by more than one standard error.",
        DEFAULT: f"the default, with nothing chosen (auxiliary genes {answer['recommended']['genes']}). Choosing does "
        f"not pay here; all spots would choose {told}.",
        CHOSEN: f"{told}.",
    }
    words = [
        f"Recommended: {meaning[recommended]}",
        f"SCC on test spots: ridge {rows[RIDGE]['scc']:.3f}; {_paired(DEFAULT, rows[DEFAULT], unit.name)}; "
        f"{_paired(CHOSEN, rows[CHOSEN], unit.name)}, by options that no test spot had a part in.",
        _genes_words(final, options),
        f"The default on counts dealt out anew among the spots of a slide: {rows[CONTROL]['scc']:.3f}.",
    ]
    share, tested = rows[recommended]["share"], rows[recommended]
    if np.isfinite(share):
        words.append(f"What is recommended reaches {share:.0%} of what counts this noisy allow.")
    if tested["n"] >= st.FEWEST_UNITS and not unit.bar:
        words.append(f"Against ridge: {tested['verdict']} (p = {tested['p']:.3f}, signed-rank test over {unit.name}s).")
    return words


def _paired(name: str, row: Mapping[str, Any], unit: str) -> str:
    """A method's score, and its difference from ridge."""
    return f"{name} {row['scc']:.3f} ({row['difference']:+.3f}, higher in {row['higher']} of {row['n']} {unit}s)"


def _genes_words(final: Mapping[str, Any], options: pd.DataFrame) -> str:
    """What auxiliary genes bring, how many they are, and which."""
    rows = options[(options.question == "genes") & (options.answer != "none")].to_dict("records")
    parts = [
        f"{row['answer']} ({len(final['genes'][row['answer']]):,} genes) {row['difference']:+.4f}, higher in "
        f"{row['higher']} of {row['n']} {final['unit']}"
        for row in rows
    ]
    return f"Auxiliary genes against none, on left-out {final['unit']}: {'; '.join(parts)}."


def _cautions(methods: pd.DataFrame, unit: Unit) -> list[str]:
    n = int(methods.n.max())
    if n >= st.FEWEST_UNITS or unit.bar:
        return [unit.words]
    return [
        f"Too few for any claim: {n} {unit.name}{'s' * (n != 1)} cannot reach p < 0.05 whatever the difference, "
        f"{st.FEWEST_UNITS} could. What is said here describes these data; it is no evidence for others. {unit.words}"
    ]
