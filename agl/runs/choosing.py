"""Choosing inside: what a config leaves open under `choose:` is decided by the training spots of every fold alone.

Training patients (where there are three or more), else training slides, are left out in turn, and every combination is
fitted to the rest as a run would be, a network with validation spots of its own. Question by question the first value
within one standard error of the best is taken, by the score that is reported (`agl.estimators.options.Options`). The
primary genes are those of the fold, chosen by its training spots; auxiliary genes are chosen anew by what is fitted on.
What is finished is kept in choice.jsonl; choice.json has the whole table and what was chosen.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agl.config import Config
from agl.errors import UserError
from agl.runs.files import write_json
from agl.runs.options import chosen_config, options_of_config

if TYPE_CHECKING:
    from rich.progress import Progress

    from agl.data.dataset import Dataset
    from agl.estimators.options import Options
    from agl.training.experiment import Experiment

CHOICE, PARTS = "choice.json", "choice.jsonl"


def dataset_of(config: Config) -> Dataset:
    """The dataset of a complete config. Where features are left open, its key is that of all of them together."""
    from agl.training.loading import load_data

    dataset = load_data(config)
    found: dict[str, Dataset] = {}
    for option in option_configs(config):
        if (key := option.data.model_dump_json()) not in found:
            found[key] = load_data(option)
            _same_spots(dataset, found[key], option)
    keys = {dataset.key, *(each.key for each in found.values())}
    if len(keys) == 1:
        return dataset
    return replace(dataset, key=hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest())


def data_key(config: Config) -> str:
    """What the dataset of a complete config depends on."""
    permuted = str(config.seed) if config.data.permute else ""
    return f"{config.data.model_dump_json()}{config.choose or ''}{permuted}"


def option_configs(config: Config) -> list[Config]:
    """Every option as a complete config; none where nothing is left open."""
    from agl.runs.resolve import complete

    if not config.choose:
        return []
    return [complete(chosen_config(config, words)) for words in _words(options_of_config(config))]


def decided(folder: Path, experiment: Experiment, progress: Progress | None = None) -> Experiment:
    """The experiment with what was left open chosen, taking up what an interrupted attempt left in the folder."""
    if not experiment.config.choose:
        return experiment
    options = options_of_config(experiment.config)
    if not (folder / CHOICE).is_file():
        write_json(folder / CHOICE, _choose(folder, experiment, options, progress))
        shutil.rmtree(folder / "inside", ignore_errors=True)
    answers = json.loads((folder / CHOICE).read_text("utf-8"))["chosen"]
    chosen = [each.answers.index(answers[each.name]) for each in options.factors]
    return _option(experiment, options.words(chosen), {})


def _choose(folder: Path, experiment: Experiment, options: Options, progress: Progress | None) -> dict[str, Any]:
    from agl.data.splitting.holdout import patient_or_slide
    from agl.estimators.inside import folds_of

    dataset, split = experiment.dataset, experiment.split
    spots = np.union1d(split.train, split.validation)
    slides = np.asarray(dataset.slide_codes)[spots]
    patients = np.unique(patient_or_slide(dataset.spots).to_numpy(str)[spots], return_inverse=True)[1]
    inside = folds_of(patients, slides, seed=experiment.config.seed)
    if len(inside) < 2:
        raise UserError(f"Expected training spots to leave out and choose by, received {len(spots)}; add slides.")
    known = _known(folder / PARTS)
    bar = None
    if progress is not None:
        bar = progress.add_task("choosing inside", total=math.prod(options.shape) * len(inside), note="")
    datasets: dict[str, Dataset] = {}
    for number, words in enumerate(_words(options)):
        option = _option(experiment, words, datasets)
        for part, (kept, held) in enumerate(inside):
            if (number, part) not in known:
                begun = time.perf_counter()
                scores = _score(folder / "inside" / f"{number}.{part}", option, spots[kept], spots[held])
                known[number, part] = {"scores": scores, "seconds": round(time.perf_counter() - begun, 3)}
                with (folder / PARTS).open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"option": number, "part": part, **known[number, part]}) + "\n")
            if progress is not None and bar is not None:
                progress.advance(bar)
    if progress is not None and bar is not None:
        progress.remove_task(bar)
    return _table(options, known, len(inside), inside.words, experiment.config.training.monitor)


def _table(
    options: Options, known: dict[tuple[int, int], dict[str, Any]], parts: int, words: str, score: str
) -> dict[str, Any]:
    """Every combination's scores on what was left out, and what they choose."""
    combinations = list(options)
    tables = [[known[number, part]["scores"] for part in range(parts)] for number in range(len(combinations))]
    units = [(part, slide) for part in range(parts) for slide in tables[0][part]]
    values = np.array([[np.nan if (v := t[p][s]) is None else v for p, s in units] for t in tables], dtype=float)
    chosen = options.choose(values.reshape(*options.shape, len(units)))
    rows = []
    for number, (answers, row) in enumerate(zip(combinations, values, strict=True)):
        defined = row[np.isfinite(row)]
        rows.append(
            {
                "answers": answers,
                "mean": float(defined.mean()) if len(defined) else None,
                "standard_error": float(defined.std(ddof=1) / len(defined) ** 0.5) if len(defined) > 1 else None,
                "scores": row.tolist(),
                "seconds": round(sum(known[number, part]["seconds"] for part in range(parts)), 3),
            }
        )
    slides = [slide if words.endswith("slides") or words.endswith("patients") else f"{slide}, part {part + 1}"
              for part, slide in units]  # fmt: skip
    return {
        "left_out": words,
        "score": score,
        "questions": {each.name: list(each.answers) for each in options.factors},
        "slides": slides,
        "options": rows,
        "chosen": options.answers(chosen),
    }


def _score(folder: Path, option: Experiment, kept: np.ndarray, held: np.ndarray) -> dict[str, float | None]:
    """The score that is reported on every left-out slide, of the option fitted to the rest."""
    import torch

    from agl.data.splitting.holdout import hold_out
    from agl.data.splitting.splits import Split
    from agl.estimators.inside import slide_scores
    from agl.genes.panel import choose_panel
    from agl.genes.training import TrainingSpots
    from agl.runs.fit import fit
    from agl.seeds import seeded
    from agl.training.experiment import Experiment

    dataset, config = option.dataset, option.config
    train, validation = kept, kept[:0]
    if not option.is_estimator:
        rng = seeded(config.seed, "choose")
        train, validation = hold_out(dataset.spots, kept, config.validation.fraction, config.validation.unit, rng)
    split = Split("inside", train, validation, held, option.split.protocol, option.split.optimistic)
    panel = choose_panel(TrainingSpots.of(dataset, train), option.panel.primary, config.auxiliary, seed=config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    fitted = fit(folder, Experiment(config, dataset, split, panel))
    scores = fitted.predict(held)[:, : len(panel.primary)]
    codes = np.asarray(dataset.slide_codes)[held]
    found = slide_scores(
        scores[None].double(),
        dataset.dense_counts(held, panel.primary),
        np.asarray(dataset.library_size)[held],
        torch.from_numpy(np.unique(codes, return_inverse=True)[1]),
        config.training.monitor,
    )[0]
    shutil.rmtree(folder, ignore_errors=True)
    counted = np.unique(codes[np.asarray(dataset.library_size)[held] > 0])
    values = {dataset.slide_names[code]: float(value) for code, value in zip(counted, found, strict=True)}
    return {slide: value if np.isfinite(value) else None for slide, value in values.items()}


def _option(experiment: Experiment, words: tuple[str, ...], datasets: dict[str, Dataset]) -> Experiment:
    """The same fold of the config with one combination in it, on its own features."""
    from agl.runs.resolve import complete
    from agl.training.loading import as_deep, load_data

    config = complete(chosen_config(experiment.config, words))
    key = config.data.model_dump_json()
    datasets[key] = datasets[key] if key in datasets else load_data(config)
    return replace(experiment, config=config, dataset=as_deep(config, datasets[key], experiment.split))


def _words(options: Options) -> Iterator[tuple[str, ...]]:
    """The overrides of every combination, in their order."""
    yield from (options.words(chosen) for chosen in np.ndindex(*options.shape))


def _known(file: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """What an interrupted attempt finished; a line that was cut short is done again."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for line in file.read_text("utf-8", errors="replace").splitlines() if file.is_file() else ():
        try:
            one = json.loads(line)
            found[one["option"], one["part"]] = {"scores": dict(one["scores"]), "seconds": float(one["seconds"])}
        except (ValueError, KeyError, TypeError):
            continue
    with file.open("w", encoding="utf-8") as rest:
        rest.writelines(json.dumps({"option": o, "part": p, **each}) + "\n" for (o, p), each in found.items())
    return found


def _same_spots(dataset: Dataset, other: Dataset, option: Config) -> None:
    """Options are compared on the same spots of the same slides."""
    columns = ["slide", "barcode"]
    if not dataset.spots[columns].astype(str).equals(other.spots[columns].astype(str)):
        raise UserError(
            f"Expected the same spots under every option, received {len(dataset)}, and {len(other)} with "
            f"{option.data.features_label}; compute the features that are missing, or leave that option out."
        )


def read_choice(folder: Path) -> dict[str, Any] | None:
    """What a run chose inside, and the whole table; None where nothing was left open.

    Raises:
        UserError: a file that is something else.
    """
    file = folder / CHOICE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text("utf-8"))
        return {key: found[key] for key in ("left_out", "score", "questions", "slides", "options", "chosen")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"Expected a choice in {file}, received something else ({error}). Train the run again."
        ) from None
