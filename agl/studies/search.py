"""A search: keys with ranges, an objective on validation spots, a sampler that proposes where to look next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from agl.config import Config, Section, validate
from agl.errors import UserError, did_you_mean
from agl.studies.grid import check_words
from agl.trees import apply_override, merge, overrides, parse_value, read_yaml

if TYPE_CHECKING:
    from optuna.trial import Trial

    from agl.runs.folder import Run

OBJECTIVES: dict[str, Literal["maximize", "minimize"]] = {"validation_scc": "maximize", "genes": "minimize"}
TEST_SCORES = ("scc", "pcc", "test", "scc_pooled", "pcc_pooled", "pcc_log1p_pooled", "test_scc", "test_pcc")


class Search(Section):
    """The `search:` part of a study file.

    Attributes:
        parameters: dotted key -> `{low, high[, log][, step]}` (whole numbers where both ends are) or a list of choices.
        objective: `validation_scc` (mean SCC of the primary genes on the validation spots, maximised), `genes` (number
            of auxiliary genes, minimised), or both: then the result is a front.
        trials: how many in all; a larger number later goes on where the search stopped.
        folds: positions of the folds that are averaged; None: all, or the one `fold` of the config.
        sampler: `tpe`, `gp` (a Gaussian process) or `random`.
        pruner: `median` gives up a trial whose validation score is below the others' median at the same epoch,
            `halving` all but the best quarter at each of a few rungs.
        startup: trials drawn at random before the sampler begins to think.
    """

    parameters: dict[str, Any]
    objective: tuple[str, ...] = ("validation_scc",)
    trials: int = Field(30, ge=1)
    folds: tuple[int, ...] | None = None
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    pruner: Literal["none", "median", "halving"] = "none"
    startup: int = Field(10, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("objective", mode="before")
    @classmethod
    def _on_validation_spots(cls, value: Any) -> Any:
        words = (value,) if isinstance(value, str) else value
        if not isinstance(words, list | tuple):
            raise UserError(f"Expected one objective or two, such as validation_scc, received {value!r}.")
        words = tuple(words)
        for word in words:
            if not isinstance(word, str):
                raise UserError(f"Expected an objective as a word, received {word!r}. Set objective: validation_scc.")
            if word in TEST_SCORES:
                raise UserError(
                    f"Expected an objective on validation spots, received {word!r}, a score on test spots: a search "
                    "that sees them leaves no honest test. Set objective: validation_scc."
                )
            if word not in OBJECTIVES:
                raise UserError(f"Expected an objective, received {word!r}.{did_you_mean(str(word), OBJECTIVES)}")
        if not words or len(set(words)) != len(words):
            raise UserError(f"Expected one objective or two different ones, received {list(words)}.")
        return words

    @model_validator(mode="after")
    def _consistent(self) -> Search:
        from agl.studies.ranges import distribution

        if self.pruner != "none" and self.objective != ("validation_scc",):
            raise UserError(
                f"Expected objective: validation_scc with a pruner, received {list(self.objective)}: pruning goes "
                "by the validation score alone. Set it, or pruner: none."
            )
        if self.pruner != "none" and self.sampler == "gp":
            raise UserError(
                f"Expected pruner: none with sampler: gp, received {self.pruner}: gp learns nothing from trials "
                "that are given up, and proposes them again. Set it, or sampler: tpe."
            )
        if not self.parameters:
            raise UserError("Expected at least one key with a range in search.parameters, found none.")
        for key, values in self.parameters.items():
            distribution(key, values)
        return self

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """`maximize` or `minimize`, one an objective."""
        return [OBJECTIVES[word] for word in self.objective]

    def suggest(self, trial: Trial) -> list[str]:
        """The sampler's values as dotted overrides; Optuna keeps the values with the trial."""
        from agl.studies.ranges import suggest

        return [word for key, values in self.parameters.items() for word in overrides(key, suggest(trial, key, values))]

    def values(self, runs: Sequence[Run]) -> list[float]:
        """The objectives' values: means over the runs of a trial."""
        found = {"validation_scc": validation, "genes": number_of_genes}
        return [sum(found[word](run) for run in runs) / len(runs) for word in self.objective]


@dataclass(frozen=True)
class SearchFile:
    """A study file: what is searched, and the config all trials share."""

    search: Search
    shared: dict[str, Any]

    def config(self, words: Sequence[str] = ()) -> Config:
        """The config of one trial."""
        tree = json.loads(json.dumps(self.shared))
        for word in words:
            apply_override(tree, word)
        return validate(tree)

    def corners(self) -> list[Config]:
        """A config at each end of every range and for every choice, the other keys at their first: is each possible?"""
        from agl.studies.ranges import ends

        first = {key: ends(values)[0] for key, values in self.search.parameters.items()}
        points = [first] + [
            first | {key: end} for key, values in self.search.parameters.items() for end in ends(values)[1:]
        ]
        return [self.config([w for key, value in point.items() for w in overrides(key, value)]) for point in points]


def read_search(path: str | Path, words: Sequence[str] = ()) -> SearchFile:
    """A study file, with overrides: `search.trials=50` of the search, anything else of the shared config."""
    check_words(words)
    tree = read_yaml(path)
    tree.pop("quick", None)  # see agl.studies.quick
    search = tree.pop("search", None)
    if not isinstance(search, dict) or not isinstance(search.get("parameters"), dict):
        raise UserError(
            f"Expected `search:` with `parameters:` in {path}, e.g. "
            "search: {parameters: {auxiliary.genes.k: {low: 5, high: 500, log: true}}}."
        )
    shared: dict[str, Any] = {}
    merge(shared, tree)
    for word in words:
        key, _, text = word.partition("=")
        if key.startswith("search.parameters."):
            search["parameters"][key.removeprefix("search.parameters.")] = parse_value(text, word)
        elif key.startswith("search."):
            search[key.removeprefix("search.")] = parse_value(text, word)
        else:
            apply_override(shared, word)
    found = SearchFile(_validated(search, path), shared)
    for config in found.corners():
        if "validation_scc" in found.search.objective and config.training.monitor != "scc":
            raise UserError(
                "Expected training.monitor=scc with the objective validation_scc, the score training stops by, "
                f"received training.monitor={config.training.monitor}. Set it."
            )
    return found


def validation(run: Run) -> float:
    """SCC of the primary genes on the validation spots, at the epoch that was kept."""
    score = run.result.get("validation")
    if score is None:
        raise UserError(
            f"Expected a validation score in {run.folder}, found none (a solved model that learns its selection has "
            "none, nor has a run whose scores are all undefined). Search over others."
        )
    return float(score)


def number_of_genes(run: Run) -> float:
    """Auxiliary genes with a weight of 0.5 or more, at the end of training."""
    import pandas as pd

    if run.result.get("k") is not None:
        return float(run.result["k"])
    panel = pd.read_csv(run.folder / "panel.csv")
    return float(((panel.role == "auxiliary") & (panel.weight >= 0.5)).sum())


def _validated(search: Mapping[str, Any], path: str | Path) -> Search:
    for key in search:
        if key not in Search.model_fields:
            raise UserError(
                f"Expected a key of a search in {path}, received "
                f"'search.{key}'.{did_you_mean(str(key), Search.model_fields)}"
            )
    try:
        return Search.model_validate(dict(search))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["search", *map(str, first["loc"])])
        raise UserError(
            f"Expected another value at the study key {place!r}, received {first['input']!r}: {first['msg']}."
        ) from None
