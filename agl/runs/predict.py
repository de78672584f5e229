"""A finished run put to use: scored again, or applied to a section."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agl.errors import UserError
from agl.hub import SCHEME
from agl.runs.folder import Run, open_run
from agl.runs.model import experiment_of, model_of

if TYPE_CHECKING:
    from agl.prediction.model import Model


def evaluate_again(folder: str | Path) -> dict[str, Any]:
    """Read the data and the saved weights anew, score the test spots, and compare with the run's own result."""
    import torch

    from agl.scoring import gene_table, summary

    run = open_run(folder)
    experiment, model = experiment_of(run), model_of(run)
    dataset, test = experiment.dataset, experiment.split.test
    torch.set_num_threads(run.config.training.threads)
    table_of = dataset.features if dataset.features is not None else None
    codes = np.asarray(dataset.slide_codes)[test]

    def inputs(rows: np.ndarray) -> np.ndarray:
        if table_of is not None:
            return np.asarray(table_of[test[rows]])
        assert dataset.patches is not None
        return dataset.patches.read(test[rows])

    scores, _ = model.scorer(inputs, codes)
    counts = torch.from_numpy(np.asarray(dataset.dense_counts(test, experiment.panel.primary), dtype=np.float32))
    table = gene_table(
        torch.from_numpy(np.asarray(scores, dtype=np.float32)),
        counts,
        np.asarray(dataset.library_size)[test],
        np.asarray(dataset.slide_names)[codes],
        experiment.primary_names,
        seed=experiment.config.seed,
        depth=experiment.config.scoring.depth,
    )
    numbers = summary(table)
    keys = ("scc", "pcc", "scc_pooled", "pcc_pooled")
    pairs = [(float(numbers[key]), run.score(key)) for key in keys]
    same = all(a == b or abs(a - b) < 1e-6 or (np.isnan(a) and np.isnan(b)) for a, b in pairs)
    return {**numbers, "as_recorded": same}


def predict_section(
    model_folder: str | Path,
    section: str,
    *,
    root: Path | None = None,
    features: Sequence[str] = (),
    out: Path | None = None,
    anyway: bool = False,
    trust: bool = False,
) -> tuple[Path, list[str]]:
    """Write a model's scores of one slide (`agl.prediction.output.to_anndata`); the file, and what to know about it.

    Args:
        model_folder: a finished run, or a model that was exported.
        section: a file of the slide, a folder with one section, or the name of a section of `root`, or, without it, of
            the run's own data.
    """
    from agl.prediction.output import write

    run, model = open_model(model_folder, trust=trust)
    own = root is None and run is not None and not Path(section).exists()
    home = _own_data(run, section) if own and run is not None else root
    scored = model.predict(section, root=home, features=features, anyway=anyway)
    if run is not None:
        scored.uns["agl"]["role_in_training"] = _role(run, section) if own else "another folder than the run's data"
    folder = run.folder if run is not None else Path()
    file = out or folder / f"{scored.obs['slide'].iloc[0]}.h5ad"
    return write(scored, file), [str(note) for note in scored.uns["agl"]["notes"]]


def open_model(folder: str | Path, *, trust: bool = False) -> tuple[Run | None, Model]:
    """The model in a folder: of a finished run, or one that was exported."""
    from agl.prediction.model import Model

    if str(folder).startswith(SCHEME) or (Path(folder) / "model.json").is_file():
        return None, Model.load(folder, trust=trust)
    run = open_run(folder)
    return run, model_of(run)


def _own_data(run: Run, section: str) -> Path:
    from agl.errors import did_you_mean
    from agl.training.loading import data_folder

    known = sorted(run.whole_provenance["data"]["report"]["sections"])
    if section not in known:
        raise UserError(
            f"Expected a file, or a section of the run's data, received {section!r}.{did_you_mean(section, known)}"
        )
    return Path(data_folder(run.config))


def _role(run: Run, section: str) -> str:
    """Whether the section helped to make the model: train, validation, test, several of them, or none."""
    slides = run.whole_provenance["split"]["slides"]
    return " and ".join(part for part in ("train", "validation", "test") if section in slides[part])
