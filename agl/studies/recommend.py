"""Which features, loss and genes for this folder? Chosen inside the training spots of every fold, then tested.

For every fold the options are compared on training slides that are left out (`agl.studies.factorial`), what is chosen
is trained and tested as an ordinary run beside ridge, the default (a committee, nothing chosen) and the default on
permuted counts. So the score of "chosen inside" holds for the whole procedure. Recommended in the end is the simplest
of ridge, default and choosing that is within one standard error of the best on the test spots: with few patients,
choosing often costs more than it brings. Where choosing pays, all spots choose in the same way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from agl.config import Config, load
from agl.data.splitting.usual import usual_split
from agl.errors import UserError
from agl.estimators.committee import Committee
from agl.estimators.inside import simplest_of_the_best
from agl.runs.files import write_json, write_text
from agl.runs.folder import Run
from agl.studies.options import Options, options_for
from agl.trees import apply_override, is_override, written

if TYPE_CHECKING:
    from rich.progress import Progress

    from agl.data.dataset import Dataset
    from agl.runs.train import PreparedRuns
    from agl.studies.factorial import Scored

ANSWER, CONFIG, AUXILIARY = "recommendation.json", "recommended.yaml", "auxiliary_genes.txt"
ASKED = ("data.root", "data.context", "data.normalise", "loss", "auxiliary.genes", "model", "fold")
RIDGE, DEFAULT, CHOSEN, CONTROL = "ridge", "default", "chosen inside", "permuted"
WITHOUT_NETWORK = "model.network=null"
COMPARED = (RIDGE, DEFAULT, CHOSEN)  # the simplest first


@dataclass(frozen=True)
class FoldChoice:
    """What was chosen by some spots, and the scores it was chosen by (`agl.studies.factorial.Scored`)."""

    where: str  # the fold's name, or "all"
    answers: dict[str, str]
    words: list[str]
    scores: list[Any]
    units: list[str]
    unit: str
    genes: dict[str, list[str]]


@dataclass(frozen=True)
class Plan:
    """The question in full: the data read, the folds cut, the options."""

    words: tuple[str, ...]  # of the config that all runs share
    options: Options
    context: bool
    committee: dict[str, PreparedRuns]  # by normalisation, with every encoder and context
    notes: tuple[str, ...]

    @property
    def config(self) -> Config:
        """What all runs share."""
        return load(self.words)

    @property
    def folder(self) -> Path:
        """Where the runs and the answer go."""
        return Path(self.config.output) / self.config.name

    @property
    def folds(self) -> list[str]:
        """Their names."""
        return [each.split.name for each in self.first.experiments]

    @property
    def first(self) -> PreparedRuns:
        """The committee on features as they are."""
        return next(iter(self.committee.values()))

    def methods(self, chosen: Sequence[str]) -> dict[str, list[str]]:
        """The runs of one fold by what they are called, as overrides. No network asks for a seat: this is an answer
        in minutes."""
        default = ["model=committee", WITHOUT_NETWORK, *([] if self.context else ["data.context=[]"])]
        return {
            RIDGE: ["model=ridge"],
            DEFAULT: default,
            CHOSEN: ["model=committee", WITHOUT_NETWORK, *chosen],
            CONTROL: [*default, "data.permute=true"],
        }


def plan(path: str | Path, words: Sequence[str] = ()) -> Plan:
    """Read a folder, cut its folds, see what can be asked; nothing is trained.

    Raises:
        UserError: a folder that cannot be read; a word about what is to be found out; data without features.
    """
    from agl.data.splitting.holdout import patient_or_slide
    from agl.runs.train import prepare
    from agl.training.loading import load_data

    for word in words:
        key = word.partition("=")[0]
        if not is_override(word):
            raise UserError(f"Expected key=value after the folder, received {word!r}. Write for example seed=1.")
        if any(key == asked or key.startswith(f"{asked}.") for asked in ASKED):
            raise UserError(f"Expected settings that all runs share, received {word!r}: this is what is found out.")
    shared = [
        f"data.root={written(str(path))}",
        f"name={written(f'recommend/{Path(path).absolute().name}')}",
        *words,
    ]
    dataset = load_data(load(shared))
    if dataset.features is None:
        raise UserError("Expected features to choose with, received data.features=none. Use builtin or an encoder's.")
    notes = []
    if not any(word.startswith("split") for word in words):
        rule, why = usual_split(patient_or_slide(dataset.spots).nunique(), len(dataset.slide_names))
        shared.append(f"split={rule}")
        notes += [why] if why else []
    committee = [*shared, "model=committee", f"data.context={json.dumps(Committee.surroundings)}"]
    context = bool(np.isfinite(dataset.spots[["x", "y"]].to_numpy(float)).all())
    if not context:
        committee[-1] = "data.context=[]"
        notes.append("Spots without places: their surroundings could not be asked for.")
    prepared = {name: prepare(load([*committee, f"data.normalise={name}"])) for name in ("train", "slide")}
    features = load(shared).data.features
    encoders = [features] if isinstance(features, str) else list(features)
    return Plan(tuple(shared), options_for(encoders, context=context), context, prepared, tuple(notes))


def recommend(asked: Plan, progress: Progress) -> dict[str, Any]:
    """Choose inside every fold, train and test, choose from all; write the answer and give it back.

    What is finished is kept: choices in `choices/`, runs in their folders.
    """
    from agl.runs.execute import execute
    from agl.runs.resolve import complete
    from agl.runs.train import prepare

    spots = [np.union1d(each.split.train, each.split.validation) for each in asked.first.experiments]
    everything = np.unique(np.concatenate([*spots, *(each.split.test for each in asked.first.experiments)]))
    bar = progress.add_task("recommend", total=len(spots) + 1 + len(spots) * len(asked.methods(())), note="")
    choices, runs = [], []
    prepared: dict[tuple[str, ...], PreparedRuns] = {}
    for fold, (name, inside) in enumerate(zip([*asked.folds, "all"], [*spots, everything], strict=True)):
        progress.update(bar, note=f"choosing inside, {name}")
        choices.append(_choice(asked, name, inside))
        progress.advance(bar)
        for method, words in asked.methods(choices[-1].words).items() if name != "all" else ():
            progress.update(bar, note=f"{method}, {name}")
            key = tuple(words)
            if key not in prepared:
                prepared[key] = prepare(load([*asked.words, *words]))
            run = execute(replace(prepared[key].experiments[fold]), progress=progress)
            runs.append({"method": method, "fold": name, "run": run.folder.name})
            progress.advance(bar)
    progress.remove_task(bar)
    *folds, final = choices
    method = _recommended(asked.folder, runs)
    recommended = asked.methods(final.words)[method]
    answer = {
        "data": asked.config.data.root,
        "split": asked.config.split.name,
        "factors": {factor.name: list(factor.answers) for factor in asked.options.factors},
        "folds": [{"fold": choice.where, "answers": choice.answers} for choice in folds],
        "final": asdict(final),
        "runs": runs,
        "recommended": {
            "method": method,
            "words": recommended,
            "genes": complete(load([*asked.words, *recommended])).auxiliary.genes.name,
        },
        "notes": list(asked.notes),
    }
    _write(asked, answer)
    return answer


def _recommended(folder: Path, runs: Sequence[Mapping[str, str]]) -> str:
    """The simplest of the methods that are compared within one standard error of the best, paired by fold."""
    by_fold = [
        [Run(folder / each["run"]).result["scc"] for each in runs if each["method"] == method] for method in COMPARED
    ]
    return COMPARED[simplest_of_the_best(np.asarray(by_fold, dtype=float))]


def runs_of(folder: Path, answer: Mapping[str, Any]) -> list[Run]:
    """The runs an answer rests on, each once."""
    return [Run(folder / name) for name in dict.fromkeys(each["run"] for each in answer["runs"])]


def _choice(asked: Plan, where: str, spots: np.ndarray) -> FoldChoice:
    """What these spots choose; as written, where they have chosen before."""
    from agl.studies.factorial import score_options

    datasets = {name: prepared.experiments[0].dataset for name, prepared in asked.committee.items()}
    file = asked.folder / "choices" / f"{_key(asked, datasets, spots)}.json"
    if file.is_file():
        return FoldChoice(**json.loads(file.read_text()))
    scored = score_options(asked.first.config, datasets, spots, asked.options)
    choice = _chosen(asked.options, where, scored)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, asdict(choice))
    return choice


def _chosen(options: Options, where: str, scored: Scored) -> FoldChoice:
    chosen = options.choose(scored.scores)
    answers, genes = options.answers(chosen), {name: list(names) for name, names in scored.genes.items()}
    words, scores = list(options.words(chosen)), scored.scores.tolist()
    return FoldChoice(where, answers, words, scores, list(scored.units), scored.unit, genes)


def _key(asked: Plan, datasets: Mapping[str, Dataset], spots: np.ndarray) -> str:
    """Twelve hex digits for one choice: the config and data, the spots that choose, the options and the members."""
    from agl.estimators.committee import MEMBERS
    from agl.runs.provenance import run_id

    digest = hashlib.sha256(run_id(asked.first.config, next(iter(datasets.values()))).encode())
    digest.update(np.asarray(spots, dtype=np.int64).tobytes())
    digest.update(repr((asked.options, MEMBERS)).encode())
    return digest.hexdigest()[:12]


def _write(asked: Plan, answer: Mapping[str, Any]) -> None:
    """The answer, the config to go on with, and the auxiliary genes in it by name."""
    tree: dict[str, Any] = {}
    for word in [*asked.words, *answer["recommended"]["words"]]:
        apply_override(tree, word)
    write_json(asked.folder / ANSWER, answer)
    write_text(asked.folder / CONFIG, yaml.safe_dump(tree, sort_keys=False))
    write_text(asked.folder / AUXILIARY, "".join(f"{name}\n" for name in auxiliary_genes(answer)))


def auxiliary_genes(answer: Mapping[str, Any]) -> list[str]:
    """The auxiliary genes, by all spots, of what is recommended; ridge has no use for any."""
    return list(answer["final"]["genes"][answer["recommended"]["genes"]])
