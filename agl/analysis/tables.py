"""Runs as a table: one row a method, mean and spread over its folds and seeds.

Scores are averaged only over runs that differ in nothing but fold and seed. Runs of different spots, splits or primary
genes answer different questions: they stand in different blocks of the table and are never compared. Different features
of the same spots are different methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from agl import registry
from agl.errors import UserError
from agl.nuisances import DEPTH, NUISANCES, POSITION, STAIN
from agl.runs.options import is_open
from agl.scoring import PREDICTABILITY

if TYPE_CHECKING:
    from rich.table import Table

    from agl.config import Config
    from agl.runs.folder import Run

SCORES = ("scc", "pcc", "scc_pooled", "pcc_pooled", "pcc_log1p_pooled")
REACH = ("ceiling", "share")  # what a perfect predictor would score, and the SCC's share of it; NaN in older runs
BLOCK = ("data", "split", "primary")
INSIDE = "chosen inside"  # in place of what the config left open (`choose:`)
FURTHER = (*REACH[:1], PREDICTABILITY, *NUISANCES)  # columns that are shown where they are asked for
OF_REACHABLE = "of reachable"  # the heading of `share`
NUISANCE_WORDS = {DEPTH: "a spot's depth alone", POSITION: "position alone", STAIN: "stain density alone"}
METHOD = ("study", *BLOCK, "features", "model", "loss", "auxiliary", "control", "settings")
# What makes no other method: the repetition, and where and on what it was computed (the data have a column).
NOT_A_SETTING = (
    "name", "output", "seed", "fold", "data", "training.device", "training.threads", "training.workers",
    "training.checkpoint_every", "auxiliary.merge",
)  # fmt: skip
LESS_DATA = ("data.patients", "data.thin", "data.thin_test")  # of the same data: another method, not other data


def runs_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run: what it was, and its numbers."""
    configs = [run.config for run in runs]
    frame = pd.DataFrame([_row(run, config) for run, config in zip(runs, configs, strict=True)])
    frame["data"] = _names(frame.root, frame.data_key)
    frame["features"] = _names(frame.features, frame.features_key, within=frame.data)
    frame["settings"] = _settings(frame, configs)
    return frame.drop(columns=["root", "files", "features_key"])


def methods_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a method: mean over its runs, and the spread (sample standard deviation) over them.

    The mean of a fold over seeds is taken first, so that a fold with more seeds does not count more. `_sd` is the
    spread over all runs, `_sd_folds` that of the folds' means, `_sd_seeds` the mean over folds of that over seeds.
    """
    rows = []
    for method, group in frame.groupby(list(METHOD), sort=False):
        row: dict[str, Any] = dict(zip(METHOD, method, strict=True))
        for score in SCORES:
            folds = group.groupby("fold", dropna=False)[score]
            row[score] = folds.mean().mean()
            row[f"{score}_sd"] = group[score].std(ddof=1)
            row[f"{score}_sd_folds"] = folds.mean().std(ddof=1)
            row[f"{score}_sd_seeds"] = folds.std(ddof=1).mean()
        for name in (*REACH, PREDICTABILITY, *NUISANCES):
            row[name] = group.groupby("fold", dropna=False)[name].mean().mean() if name in group else float("nan")
        row |= {"runs": len(group), "folds": group.fold.nunique(), "seeds": group.seed.nunique()}
        row |= {"undefined": int(group.undefined.sum()), "pairs": int(group.pairs.sum())}
        row |= {"optimistic": bool(group.optimistic.any())}
        rows.append(row)
    return _in_order(pd.DataFrame(rows))


def _in_order(methods: pd.DataFrame) -> pd.DataFrame:
    """Blocks in the order of their names, the best method of a block first."""
    blocks = ["study", *BLOCK, "control"]
    ordered = methods.sort_values([*blocks, "scc"], ascending=[True] * len(blocks) + [False], kind="stable")
    return ordered.reset_index(drop=True)


def rich_table(methods: pd.DataFrame, *, pooled: bool = False, columns: Sequence[str] = ()) -> Table:
    """For the terminal: columns that say the same in every row are left out, the best of each block is bold.

    Args:
        columns: of `FURTHER`, shown as well.
    """
    from rich.table import Table

    table = Table(title="mean ± spread over folds and seeds", title_justify="left", header_style="bold")
    said = said_columns(methods)
    for column in said:
        table.add_column(column)
    shown = {"scc": "SCC per slide", "pcc": "PCC per slide"}
    shown |= {"scc_pooled": "SCC pooled", "pcc_pooled": "PCC pooled"} if pooled else {}
    for title in shown.values():
        table.add_column(title, justify="right")
    reach = [OF_REACHABLE] if methods.share.notna().any() else []
    for title in (*reach, *columns, "runs", "undefined"):
        table.add_column(title, justify="right")
    best = {score: best_rows(methods, score) for score in shown}
    for index, row in methods.iterrows():
        values = [str(row[c]) + (" (optimistic)" if c == "split" and row.optimistic else "") for c in said]
        scores = [_bold(mean_sd(row[s], row[f"{s}_sd"]), index in best[s]) for s in shown]
        shares = [percent(row.share) for _ in reach]
        shares += ["-" if pd.isna(row[name]) else f"{row[name]:.3f}" for name in columns]
        table.add_row(*values, *scores, *shares, str(row.runs), f"{row.undefined}/{row.pairs}")
    words = ["optimistic: spots beside the test spots were trained on"] if methods.optimistic.any() else []
    by_block = methods.groupby(list(BLOCK), sort=False)[list(NUISANCES)].mean().reset_index()
    words += [
        f"without a model, SCC per slide: {beside}" for beside in dict.fromkeys(nuisance_words(by_block)) if beside
    ]
    if words:
        table.caption = "; ".join(words)
    return table


def nuisance_words(methods: pd.DataFrame) -> list[str]:
    """What depth, position and stain density alone reach on the test spots of each row; "" where nobody knows."""
    rows = methods.to_dict("records")
    known = [[(words, row[name]) for name, words in NUISANCE_WORDS.items() if pd.notna(row.get(name))] for row in rows]
    return [", ".join(f"{words} {value:.2f}" for words, value in each) for each in known]


def markdown(methods: pd.DataFrame) -> str:
    """The same table for a README."""
    said = said_columns(methods)
    reach = [OF_REACHABLE] if methods.share.notna().any() else []
    header = [*said, "SCC per slide", "PCC per slide", "SCC pooled", "PCC pooled", *reach, "runs", "undefined"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for _, row in methods.iterrows():
        scores = [mean_sd(row[s], row[f"{s}_sd"]) for s in SCORES[:4]]
        words = [(str(row[c]) or "-") + (" (optimistic)" if c == "split" and row.optimistic else "") for c in said]
        cells = [*words, *scores, *(percent(row.share) for _ in reach), str(row.runs), f"{row.undefined}/{row.pairs}"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def said_columns(methods: pd.DataFrame) -> list[str]:
    """The columns worth showing: model and loss, those whose rows differ, and the split where it is optimistic."""
    always = {"model", "loss"} | ({"split"} if methods.optimistic.any() else set())
    return [c for c in METHOD if c in always or methods[c].nunique() > 1]


def best_rows(methods: pd.DataFrame, score: str) -> set[Any]:
    """The rows with the highest score, as printed, among the methods of a block; controls are no competitors."""
    best: set[Any] = set()
    for _, block in methods[methods.control == ""].groupby(list(BLOCK)):
        rounded = block[score].round(3)
        best |= set(rounded.index[rounded == rounded.max()]) if len(block) > 1 else set()
    return best


def mean_sd(mean: float, sd: float) -> str:
    """
    >>> mean_sd(0.31249, 0.02), mean_sd(0.3, float("nan")), mean_sd(float("nan"), 0.0)
    ('0.312 ± 0.020', '0.300', 'undefined')
    """
    if pd.isna(mean):
        return "undefined"
    return f"{mean:.3f}" + ("" if pd.isna(sd) else f" ± {sd:.3f}")


def percent(share: float) -> str:
    """
    >>> percent(0.214), percent(float("nan"))
    ('21%', '-')
    """
    return "-" if pd.isna(share) else f"{share:.0%}"


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config as dotted keys.

    >>> flat({"a": {"b": 1, "c": [1, 2]}, "d": {}})
    {'a.b': 1, 'a.c': [1, 2], 'd': {}}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _row(run: Run, config: Config) -> dict[str, Any]:
    result = run.result
    kind = "estimator" if registry.is_estimator(config.model) else "model"
    baseline = not config.choose and _is_baseline(config)
    missing = [key for key in ("undefined", "pairs", "optimistic") if key not in result]
    if missing:
        raise UserError(
            f"Expected {', '.join(missing)} in {run.folder / 'result.json'}, found a result without. "
            "Remove that folder and train the run again."
        )
    provenance = run.provenance if (run.folder / "provenance.json").is_file() else {}
    data = provenance.get("data", {})
    content = str(data.get("key", "")).removesuffix("-permuted")
    row = {
        "study": config.name,
        "data_key": str(data.get("spots", content)),
        "features_key": content,
        "features": config.data.features_label,
        "root": Path(config.data.root).name if config.data.root else "simulated",
        "files": provenance.get("plugin_files", {}),
        "split": label(config.split.name, config.split.args, "split").removeprefix("leave_").replace("_", " ")
        + (", depth partialled out" if config.scoring.depth == "partial" else ""),
        "primary": label(config.primary.name, config.primary.args, "primary"),
        "model": label(config.model.name, config.model.args, kind),
        "loss": "-" if baseline else label(config.loss.name, config.loss.args, "loss"),
        "auxiliary": "-" if baseline else auxiliary_label(config),
        "control": "permuted" if config.data.permute else "",
        "fold": config.fold,
        "seed": config.seed,
        **{key: _number(result.get(key)) for key in (*SCORES, *REACH, PREDICTABILITY, *NUISANCES)},
        "undefined": result["undefined"],
        "pairs": result["pairs"],
        "optimistic": result["optimistic"],
        "epochs": result.get("epochs"),
        "k": result.get("k"),
        "folder": str(run.folder),
    }
    left_open = {"model": "model", "loss": "loss", "auxiliary": "auxiliary.genes"}
    row |= {column: INSIDE for column, key in left_open.items() if is_open(config, key)}
    return row | ({"features": INSIDE} if is_open(config, "data", below=True) else {})


def _is_baseline(config: Config) -> bool:
    """Whether the predictor knows neither the config's loss nor auxiliary genes."""
    name = config.model.name
    if not registry.is_estimator(config.model):
        return False
    return not (registry.has("estimator", name) and registry.takes_sample(registry.find("estimator", name)))


def _names(words: pd.Series, keys: pd.Series, *, within: pd.Series | None = None) -> pd.Series:
    """Words, with the start of the content key where several contents share one."""
    shared = keys.groupby([words] if within is None else [words, within]).transform("nunique") > 1
    return words.where(~shared, words + " " + keys.str[:6].replace("", "unknown"))


def _settings(frame: pd.DataFrame, configs: Sequence[Config]) -> pd.Series:
    """What differs between runs that would otherwise count as one method."""
    flats = pd.Series([_settable(c, f) for c, f in zip(configs, frame.files, strict=True)], index=frame.index)
    words = pd.Series("", index=frame.index)
    for _, group in frame.groupby([c for c in METHOD if c != "settings"], sort=False):
        trees = flats[group.index]
        keys = sorted(set().union(*trees))
        differing = [key for key in keys if len({repr(tree.get(key)) for tree in trees}) > 1]
        for index in group.index:
            words[index] = ", ".join(f"{key}={flats[index].get(key)}" for key in differing)
    return words


def _settable(config: Config, files: Mapping[str, str]) -> dict[str, Any]:
    """The config as dotted keys without what makes no other method, and the content of its plugin files."""
    given = {key: getattr(config, key).model_dump(mode="json") for key in ("data", "auxiliary")}
    whole = config.to_dict() | given  # with what asks for nothing
    tree = flat(whole) | {f"content of {name}": digest[:6] for name, digest in files.items()}
    return {
        key: value
        for key, value in tree.items()
        if key in LESS_DATA or not any(key == word or key.startswith(f"{word}.") for word in NOT_A_SETTING)
    }


def auxiliary_label(config: Config) -> str:
    """The auxiliary genes in a few words, and how their gradient is merged with the primary genes' where it is.

    >>> from agl.config import Config
    >>> auxiliary_label(Config().with_("auxiliary.genes=all", "auxiliary.merge=pcgrad", "auxiliary.merge.both=false"))
    'all, merge=pcgrad(both=False)'
    """
    genes, merge = config.auxiliary.genes, config.auxiliary.merge
    words = label(genes.name, genes.args, "gene_set")
    return words if merge.name == "sum" else f"{words}, merge={label(merge.name, merge.args, 'merge')}"


def label(name: str, args: dict[str, Any], kind: str) -> str:
    """A component's name with the arguments that differ from its defaults.

    >>> label("listwise", {}, "loss")
    'listwise'
    """
    short = name.rpartition(":")[2]
    defaults: dict[str, Any] = {}
    kind = "selector" if kind == "gene_set" and registry.has("selector", name) else kind
    if args and registry.has(kind, name):
        defaults = registry.defaults(kind, name)
    changed = {key: value for key, value in args.items() if key not in defaults or defaults[key] != value}
    changed = {key: _nested(value) for key, value in changed.items()}
    words = ", ".join(f"{key}={Path(str(value)).name if key == 'path' else value}" for key, value in changed.items())
    return f"{short}({words})" if words else short


def _nested(value: Any) -> Any:
    """An argument that is a component by its label, such as a prior; others as they are."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return value
    return label(value["name"], {key: each for key, each in value.items() if key != "name"}, "prior")


def _bold(text: str, strong: bool) -> str:
    return f"[bold]{text}[/bold]" if strong else text


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
