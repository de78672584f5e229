"""What one does: check, train, compare, recommend, report, predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agl.api.runs import Runs
from agl.api.settings import Source, tree_of
from agl.config import Config, load, validate
from agl.data.memory import as_folder, in_memory
from agl.progress import display

if TYPE_CHECKING:
    import pandas as pd

    from agl.analysis.recommendation import Advice
    from agl.data.checking.report import CheckReport
    from agl.prediction.model import Model


def check(
    data: Any, *, features: str | Sequence[str] = "auto", slide: str = "slide", patient: str = "patient"
) -> CheckReport:
    """What is in a folder, or in AnnData in memory, what will be used, and what is wrong and how to mend it.

    Args:
        data: a folder; "example"; an AnnData with `slide` and `patient` in obs; a list or dict of AnnData.
        features: for a folder "auto", "builtin", "none", a name or folder of feature files; else a key of obsm.

    >>> check("no/such/folder").status
    'error'
    """
    from agl.data.checking.doctor import check as examine
    from agl.data.example import folder_named

    if in_memory(data):
        wanted = None if features == "auto" else features
        folder, keys = as_folder(data, features=wanted, slide=slide, patient=patient)
        return examine(folder, features=keys[0])
    if not isinstance(features, str):
        features = features[0]
    return examine(folder_named(str(data)), features=features)


def train(
    data: Any,
    config: Source = None,
    *,
    slide: str = "slide",
    patient: str = "patient",
    progress: bool = True,
    **settings: Any,
) -> Runs:
    """Train a predictor for every fold, or the one that `fold` names; finished runs are kept and found again.

    Args:
        data: a folder; "example"; an AnnData with `slide` and `patient` in obs; a list or dict of AnnData, one a slide.
        config: a file, dict, `Config` or words to begin with.
        slide, patient: columns of obs, for data in memory.
        settings: any key of the config: `loss`, `model`, `genes` (auxiliary genes), `features` (a key of obsm for data
            in memory), `seed`, `fold`, `output`, `name`; parts as dicts, or `**{"training.epochs": 50}`.

    Raises:
        UserError: one sentence for each way in which data or settings can be wrong.

    >>> runs = train("example", model="ridge", fold=0, output="/tmp/agl-example", progress=False)  # doctest: +SKIP
    """
    from agl.runs.train import train as train_config

    given = validate(tree_of(data, config, slide=slide, patient=patient, **settings))
    with display(shown=progress) as bars:
        return Runs(train_config(given, progress=bars))


def grid(
    data: Any,
    axes: Mapping[str, Sequence[Any]],
    config: Source = None,
    *,
    skip: Sequence[Mapping[str, Any]] = (),
    slide: str = "slide",
    patient: str = "patient",
    progress: bool = True,
    **settings: Any,
) -> Runs:
    """Train every combination of the values on some axes: `axes={"loss": ["mse", "listwise"], "seed": [0, 1, 2]}`.

    Args:
        axes: key of the config -> values; a value that is itself a dict sets several keys at once.
        skip: combinations to leave out, such as `{"loss": "mse", "seed": 2}`.
        data, config, slide, patient, settings: what all cells share, see `train`.
    """
    from agl.studies.grid import grid_of, train_cells

    shared = tree_of(data, config, slide=slide, patient=patient, **settings)
    asked = grid_of(shared, {key: list(values) for key, values in axes.items()}, [dict(rule) for rule in skip], "grid")
    with display(shown=progress) as bars:
        return Runs(train_cells(asked, progress=bars))


@dataclass(frozen=True)
class Recommendation:
    """What was chosen inside the training spots, and how it scored on the test spots.

    Attributes:
        folder: of the answer and its runs.
        runs: all runs it rests on.
        findings: tables and sentences, see `agl.analysis.recommendation`.
    """

    folder: Path
    runs: Runs
    findings: Advice

    @property
    def table(self) -> pd.DataFrame:
        """Ridge, the default, the choice and the negative control on test spots."""
        return self.findings.methods

    @property
    def options(self) -> pd.DataFrame:
        """Every question and its answers, on slides that were left out of training."""
        return self.findings.options

    @property
    def words(self) -> list[str]:
        """The answer in sentences, and what to be careful about."""
        return [*self.findings.words, *self.findings.cautions]

    @property
    def config(self) -> Config:
        """The config to go on with: `agl.train(data, best.config)`."""
        from agl.studies.recommend import CONFIG

        return load([self.folder / CONFIG])

    @property
    def genes(self) -> list[str]:
        """The auxiliary genes in it, by name."""
        from agl.studies.recommend import AUXILIARY

        return (self.folder / AUXILIARY).read_text("utf-8").split()

    def __repr__(self) -> str:
        return "\n".join(["<Recommendation>", self.table.to_string(index=False), *self.words])

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False) + "".join(f"<p>{word}</p>" for word in self.words)


def recommend(
    data: Any,
    config: Source = None,
    *,
    slide: str = "slide",
    patient: str = "patient",
    progress: bool = True,
    **settings: Any,
) -> Recommendation:
    """Which features, loss and auxiliary genes? Chosen inside training spots of every fold, tested beside ridge.

    Args:
        data, config, slide, patient, settings: what all runs share, see `train`; what is asked cannot be given.
    """
    from agl.analysis.recommendation import read_findings
    from agl.studies import recommend as study
    from agl.trees import overrides

    tree = tree_of(data, config, slide=slide, patient=patient, **settings)
    root = tree["data"].pop("root")
    words = [word for key, value in _flat(tree) for word in overrides(key, value)]
    asked = study.plan(root, words)
    with display(shown=progress) as bars:
        answer = study.recommend(asked, bars)
    return Recommendation(asked.folder, Runs(study.runs_of(asked.folder, answer)), read_findings(asked.folder))


def open_run(*folders: str | Path) -> Runs:
    """The finished runs in and below some folders: of one fold, of a config, of a whole study."""
    return Runs.below(*folders)


def load_model(folder: str | Path, *, trust: bool = False) -> Model:
    """A model that was saved or exported, from its folder, or from `hf://OWNER/NAME` on the Hugging Face hub.

    Args:
        trust: also one that brings Python code of its own, which is then run.
    """
    from agl.prediction.model import Model

    return Model.load(folder, trust=trust)


def report(runs: Runs | str | Path | Sequence[str | Path], out: str | Path, *, title: str | None = None) -> Path:
    """Tables, statistics, figures and a page about runs; nothing is trained. Gives the page.

    Args:
        runs: what `train` or `grid` gave, or folders.
        out: the report's folder.
    """
    from agl.reporting.build import write_report

    folders = [runs] if isinstance(runs, str | Path) else runs.folders if isinstance(runs, Runs) else list(runs)
    return write_report(folders, out, title=title)


def _flat(tree: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Sections of a config as dotted keys; components stay whole."""
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and "name" not in value:
            found += [(f"{key}.{inner}", each) for inner, each in _flat(value)]
        else:
            found.append((key, value))
    return found
