"""What a reader must know to believe a number: who was on both sides of a split, the protocol, where runs come from."""

from __future__ import annotations

from typing import Any

import pandas as pd

from agl.analysis.results import Results
from agl.analysis.tables import flat


def leak_audit(results: Results, block: str) -> tuple[pd.DataFrame, list[str]]:
    """One row a fold: spots and slides of its parts, and who is on both sides; and warnings in sentences."""
    patients = results.patients[block]
    rows, warnings = [], []
    here = results.frame[results.frame.block == block]
    for fold, runs in here.groupby("fold", dropna=False):
        splits = [results.provenance[int(i)].get("split") for i in runs.index]
        known = [split for split in splits if split]
        if not known:
            warnings.append(f"Fold {fold}: no run of it says how it was split.")
            continue
        rows.append(_row(fold, known[0], patients, bool(runs.optimistic.any())))
        if _differ(results, runs):
            warnings.append(
                f"Fold {fold}: runs of the same seed were split differently, so their differences are not paired spot "
                "by spot. Train them again from the same data and split."
            )
    table = pd.DataFrame(rows)
    if len(table) and (table.optimistic == "yes").any():
        warnings.append(
            "Optimistic: neighbours of test spots were trained on. These scores say nothing about new slides."
        )
    return table, warnings


def protocol(results: Results, block: str) -> dict[str, str]:
    """How the numbers of a block were made, question by question."""
    here = results.frame[results.frame.block == block]
    config = results.runs[int(here.index[0])].config
    first = next((results.provenance[int(i)] for i in here.index if results.provenance[int(i)]), {})
    split = first.get("split", {})
    splits = [results.provenance[int(i)].get("split", {}) for i in here.index]
    hashes = sorted({str(each.get("sha256", ""))[:12] for each in splits} - {""})
    listed = ", ".join(hashes[:8]) + (" …" if len(hashes) > 8 else "")
    fixed = "a fixed list from a file; it may have seen the test spots"
    source = (
        fixed if config.primary.name == "file" else "chosen anew in every fold, on its training and validation spots"
    )
    features = first.get("data", {}).get("report", {}).get("features") or {}
    return {
        "Data": f"{here.data.iloc[0]}, content key {str(here.data_key.iloc[0])[:12] or 'unknown'}",
        "Image features": str(features.get("source", config.data.features_label)),
        "Target": "log(1 + 10⁴ · count / library size); the library size is a spot's total over all genes",
        "Score": "Spearman (SCC) and Pearson (PCC) of score and target over the spots of a slide, for every gene; mean "
        "over genes, then over slides. Pooled: over all test spots of a fold together",
        "Undefined": f"{int(here.undefined.sum())} of {int(here.pairs.sum())} (run, slide, gene) scores are undefined "
        "(a gene that no method could rank there) and left out of means. A prediction that does not vary counts 0",
        "Primary genes": f"{here.primary.iloc[0]}: {source}",
        "Split": f"{split.get('protocol', config.split.name)}, {here.fold.nunique()} folds; "
        + (f"spots {listed} (SHA-256)" if hashes else "hash unknown"),
        "Stopping": f"best {config.training.monitor.upper()} on validation spots ({config.validation.unit}, "
        f"{config.validation.fraction:.0%} of the training part); test spots are read once, after training",
        "Validation spots": "help to choose the primary genes, so that seeds share them; stop both stages of a learned "
        "selection and every training; judge the trials of a search. Priors and selections see none of them",
        "Leaks allowed": ", ".join(config.allow_leaks) or "none",
    }


def differing_settings(results: Results, block: str) -> pd.DataFrame:
    """Config keys whose values differ between the methods of a block beside what names them: possible confounders."""
    here = results.frame[(results.frame.block == block) & (results.frame.loss != "-")]
    first = here.drop_duplicates("method")
    places = zip(first.method, first.index.to_list(), strict=True)
    trees = {method: flat(results.runs[place].config.to_dict()) for method, place in places}
    ignored = ("name", "output", "seed", "fold", "loss", "model", "auxiliary.genes", "data", "auxiliary.outer")
    keys = sorted({key for tree in trees.values() for key in tree if not _below(key, ignored)})
    rows = [
        {"key": key, **{method: str(tree.get(key, "–")) for method, tree in trees.items()}}
        for key in keys
        if len({repr(tree.get(key)) for tree in trees.values()}) > 1
    ]
    return pd.DataFrame(rows)


def provenance_table(results: Results) -> pd.DataFrame:
    """One row a run: when, from which code, on what, for how long."""
    rows = []
    for run, said, row in zip(results.runs, results.provenance, results.frame.to_dict("records"), strict=True):
        code, packages = said.get("code", {}), said.get("packages", {})
        about = {name: row[name] for name in ("method", "block", "fold", "seed")}
        versions = {name: packages.get(name) for name in ("agl", "torch", "numpy", "scipy")}
        rows.append(
            {
                "run": run.folder.name, **about, "finished": said.get("finished", ""),
                "commit": str(code.get("commit", ""))[:12], "changed": code.get("changed"),
                "device": said.get("device", ""), "machine": said.get("machine", ""),
                "python": said.get("python", ""), **versions, "data_key": said.get("data", {}).get("key", ""),
                "split_sha256": said.get("split", {}).get("sha256", ""), "seconds": said.get("seconds"),
                "peak_memory_mib": said.get("peak_memory_mib"), "command": " ".join(map(str, said.get("command", []))),
                "folder": str(run.folder),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def provenance_summary(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """One row a method, and warnings about code that differs or was changed."""
    rows = []
    for (block, method), runs in table.groupby(["block", "method"], sort=False):
        rows.append(
            {
                "block": block, "method": method, "runs": len(runs), "seeds": _few(runs.seed),
                "commit": _few(runs.commit), "device": _few(runs.device), "torch": _few(runs.torch),
                "time": _duration(runs.seconds.sum()), "peak memory": f"{runs.peak_memory_mib.max():.0f} MiB",
                "finished": str(runs.finished.max())[:10],
            }
        )  # fmt: skip
    warnings = []
    commits = sorted(set(table.commit) - {""})
    if len(commits) > 1:
        warnings.append(f"The runs come from {len(commits)} versions of the code: {', '.join(commits[:6])}.")
    changed = int((table.changed == True).sum())  # noqa: E712 (None where unknown)
    if changed:
        warnings.append(f"{changed} of {len(table)} runs come from a checkout with changes that no commit holds.")
    if not commits:
        warnings.append("No run says which commit it comes from; agl was not run from a checkout.")
    return pd.DataFrame(rows), warnings


def _row(fold: Any, split: dict[str, Any], patients: dict[str, str], optimistic: bool) -> dict[str, Any]:
    spots, slides = split.get("spots", {}), split.get("slides", {})
    seen = set(slides.get("train", [])) | set(slides.get("validation", []))
    test = set(slides.get("test", []))
    shared = sorted({patients[s] for s in seen if s in patients} & {patients[s] for s in test if s in patients})
    unknown = any(slide not in patients for slide in seen | test)
    return {
        "fold": f"{fold}: {split.get('name', '')}",
        "protocol": split.get("protocol", ""),
        **{f"{part} spots": spots.get(part, "–") for part in ("train", "validation", "test")},
        "test slides": ", ".join(sorted(test)),
        "shared slides": ", ".join(sorted(seen & test)) or "none",
        "shared patients": ", ".join(shared) or ("unknown" if unknown else "none"),
        "optimistic": "yes" if optimistic else "no",
    }


def _differ(results: Results, runs: pd.DataFrame) -> bool:
    """Whether runs of one seed have different spots in train, validation or test."""
    for _, same in runs.groupby("seed"):
        found = {results.provenance[int(i)].get("split", {}).get("sha256") for i in same.index} - {None}
        if len(found) > 1:
            return True
    return False


def _below(key: str, sections: tuple[str, ...]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _few(values: pd.Series) -> str:
    known = sorted({str(value) for value in values.dropna()} - {""})
    return ", ".join(known[:4]) + (" …" if len(known) > 4 else "")


def _duration(seconds: float) -> str:
    """
    >>> _duration(75), _duration(3.2), _duration(7300)
    ('1 min 15 s', '3 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
