"""What a synthetic study is made of: frozen, closed to unknown keys, defaults in one place."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from agl.config import Component, Section, validate_as
from agl.errors import UserError, did_you_mean
from agl.places import safe_name, safe_path, shortened
from agl.trees import read_tree

Sampling = Literal["uniform", "imbalanced"]
Protocol = Literal["released", "paper"]


class Method(Section):
    """A way to train: a loss, and whether it sees which tissue a spot is from."""

    label: str
    loss: Component
    grouped: bool = True


def _method(label: str, name: str, *, grouped: bool = True, **args: Any) -> Method:
    return Method(label=label, loss=Component.model_validate({"name": name, **args}), grouped=grouped)


PUBLISHED = [
    _method("MSE", "mse", grouped=False),
    _method("Poisson", "poisson"),
    _method("NB", "strank:negative_binomial_nll", dispersion=1.0),
    _method("Rank", "margin_ranking_released"),
    _method("PairSTRank", "pairwise"),
    _method("PCC pooled", "pearson", grouped=False),
    _method("ListSTRank", "listwise"),
]
CONTROLS = [
    _method("PCC per tissue", "pearson"),
    _method("MSE centred per tissue", "mse", centred=True),
    _method("Rank, margin 1", "margin_ranking", margin=1.0, n_partners=8),
    _method("NB, learned dispersion", "negative_binomial"),
    _method("Dirichlet-multinomial", "dirichlet_multinomial"),
    _method("List, power 0.5", "listwise", count_power=0.5),
    _method("List, power 0", "listwise", count_power=0.0),
    _method("Pair, power 0.5", "pairwise", count_power=0.5),
]
SIZES = [_method(f"List of {size}", "listwise", list_size=size) for size in (2, 4, 8, 16, 32, 64, 128, 256)]
METHODS = {method.label: method for method in [*PUBLISHED, *CONTROLS, *SIZES]}
FAMILIES = {"published": PUBLISHED, "controls": CONTROLS, "sizes": SIZES}


@dataclass(frozen=True)
class Case:
    """One pair of tissues: the function, how the second tissue is sampled, scaled and shifted, how noisy both are."""

    function: int
    sampling: Sampling
    seed: int
    scale: float
    offset: float
    r: float


class StudySettings(Section):
    """Tissues, networks, methods and the length of training. The defaults are the released script's.

    Every combination of `functions`, `samplings`, `seeds`, `scales`, `offsets` and `r` is a case; every method is
    trained on every case.
    """

    name: str = "synthetic"
    protocol: Protocol = "released"
    functions: tuple[int, ...] = (0, 1, 2, 3)
    samplings: tuple[Sampling, ...] = ("uniform", "imbalanced")
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2, 3, 4)
    scales: tuple[PositiveFloat, ...] = (10.0,)  # of the second tissue; the first has scale 1 and offset 0
    offsets: tuple[NonNegativeFloat, ...] = (10.0,)
    r: tuple[PositiveFloat, ...] = (100.0,)  # variance mu + mu^2 / r
    spots: PositiveInt = 50_000  # of each tissue
    evaluation_spots: PositiveInt = 10_000  # validation and test, each
    methods: tuple[Method, ...] = tuple(PUBLISHED)
    hidden: tuple[PositiveInt, ...] = (16,)
    standardise: bool = False  # the networks' input
    epochs: PositiveInt = 200
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 1e-3
    schedule: Literal["restarts", "cosine"] = "restarts"
    evaluate_every: PositiveInt = 1  # epochs, after the first ten, which all are
    device: str = "cpu"
    seed: NonNegativeInt = 0  # of the order of spots and of random pairs
    output: str = Field("runs", exclude=True)

    @field_validator("methods", mode="before")
    @classmethod
    def _by_name(cls, methods: Any) -> Any:
        """A label, a family (`published`, `controls`, `sizes`), or a method written out."""
        methods = [methods] if isinstance(methods, str) else methods
        if not isinstance(methods, list | tuple):
            raise UserError(f"Expected methods as a list such as [published, MSE], received {shortened(methods)}.")
        found: list[Any] = []
        for method in methods:
            if not isinstance(method, str):
                found.append(method)
            elif method in FAMILIES:
                found += FAMILIES[method]
            elif method in METHODS:
                found.append(METHODS[method])
            else:
                known = [*FAMILIES, *METHODS]
                raise UserError(
                    f"Expected a method, received {method!r}.{did_you_mean(method, known)} Known: {', '.join(known)}."
                )
        return found

    @field_validator("methods")
    @classmethod
    def _each_once(cls, methods: tuple[Method, ...]) -> tuple[Method, ...]:
        labels = [method.label for method in methods]
        if not labels or len(set(labels)) < len(labels):
            raise UserError(f"Expected methods with different labels, received {labels}.")
        return methods

    @field_validator("name")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        return safe_name(value, "name")

    @field_validator("output")
    @classmethod
    def _path(cls, value: str) -> str:
        return safe_path(value, "output")

    @field_validator("functions")
    @classmethod
    def _known(cls, functions: tuple[int, ...]) -> tuple[int, ...]:
        if not functions or any(not 0 <= function <= 3 for function in functions):
            raise UserError(f"Expected functions among 0, 1, 2, 3, received {list(functions)}.")
        return functions

    @field_validator("samplings", "seeds", "scales", "offsets", "r")
    @classmethod
    def _not_empty(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:
            raise ValueError("expected at least one value")
        return values

    @property
    def cases(self) -> list[Case]:
        """Every combination, in a fixed order."""
        axes = (self.functions, self.samplings, self.seeds, self.scales, self.offsets, self.r)
        return [Case(*values) for values in itertools.product(*axes)]

    @property
    def folder(self) -> Path:
        """Named by a hash of everything that decides the numbers."""
        digest = hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
        return Path(self.output) / f"{self.name}.{digest[:12]}"


def read_study(words: Sequence[str | Path]) -> StudySettings:
    """A study from YAML files and `key=value` words.

    >>> len(read_study(["functions=[0]", "samplings=[uniform]"]).cases)
    5
    """
    tree = read_tree(words, command="synthetic")
    tree.pop("quick", None)  # see agl.studies.quick
    return validate_as(StudySettings, tree)
