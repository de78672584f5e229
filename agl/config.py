"""A run is a frozen config; everything else is dotted overrides on it.

Defaults live here and in the signatures of the components, and nowhere else. Precedence: defaults < YAML files
< `key=value` words. Unknown keys are errors that name the nearest known key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from agl.errors import ConfigError, did_you_mean
from agl.places import safe_name, safe_path, shortened
from agl.slots import Slot
from agl.trees import apply_override, flat_lists, read_tree

WANTED = {
    "tuple_type": "a list such as [a, b]",
    "dict_type": "keys and values such as {key: value}",
    "model_type": "a name, or keys and values such as {key: value}",
}


class Section(BaseModel):
    """A part of the config: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _default_names(cls, tree: Any) -> Any:
        """`primary: {k: 30}` without a name speaks of the default component."""
        if not isinstance(tree, Mapping):
            return tree
        named = {
            key: {"name": cls.model_fields[key].default.name, **tree[key]}
            for key in slots(cls)
            if isinstance(tree.get(key), Mapping) and isinstance(cls.model_fields[key].default, Component)
        }
        return {**tree, **named}

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """To Python, true is 1; whoever writes `seed=true` means something else."""
        wanted = str(cls.model_fields[str(info.field_name)].annotation)
        items = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, bool) for item in items) and not any(word in wanted for word in ("bool", "Any")):
            raise PydanticCustomError("truth", "Expected no truth value")
        return value


Kind = TypeVar("Kind", bound=Section)


def slots(part: type[Section]) -> dict[str, Slot]:
    """The fields of a part of the config where a component stands, or a list of them.

    >>> slots(Training)["sampler"].kinds
    ('sampler',)
    """
    marks = {key: [m for m in field.metadata if isinstance(m, Slot)] for key, field in part.model_fields.items()}
    return {key: found[0] for key, found in marks.items() if found}


class Component(BaseModel):
    """Something pluggable: its name, and the arguments its signature takes.

    >>> Component.model_validate("listwise").name
    'listwise'
    >>> Component.model_validate({"name": "listwise", "count_power": 0.5}).args
    {'count_power': 0.5}
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        for key in value if isinstance(value, Mapping) else ():
            if not isinstance(key, str) or not key.isidentifier():
                raise PydanticCustomError("argument", "Expected arguments named by words such as k or path")
        return {"name": value} if isinstance(value, str) else value

    @property
    def args(self) -> dict[str, Any]:
        """The arguments beside the name."""
        return dict(self.model_extra or {})


class Data(Section):
    """Which sections are read, and how."""

    root: str | None = None  # a folder; "example": the sections in the package; None: simulated ones, see `simulate`
    simulate: dict[str, Any] = Field(default_factory=dict)  # arguments of `agl simulate`, used when root is None
    features: str | tuple[str, ...] = "builtin"  # "builtin", "none" (patches), a folder of feature files, or several
    context: tuple[PositiveInt, ...] | None = None  # numbers of nearest spots whose mean is appended; None: [8, 24]
    # for the committee, none for other models
    normalise: Literal["train", "slide"] = "train"  # features centred and scaled by the training spots, or per slide
    places: bool | None = None  # x and y from the slide's middle, in pitches, as features; None: where the model asks
    formats: Annotated[tuple[Component, ...], Slot("format")] = ()  # of your own, for feature files
    sections: tuple[str, ...] | None = None
    min_counts: int = Field(1, ge=0)  # spots with fewer counts in total are left out
    min_matched: float = Field(0.5, ge=0, le=1)  # share of a slide's spots that need features; fewer are refused
    permute: bool = False  # negative control: shuffle the counts among the spots of each slide
    library: Literal["measured", "ignored"] = "measured"  # "ignored": log1p of raw counts, to learn and to score
    patients: PositiveInt | None = None  # on the training side; nested subsets drawn by the seed; None: all
    thin: float = Field(1.0, gt=0, le=1)  # share of the counts that training and validation spots keep
    thin_test: float = Field(1.0, gt=0, le=1)  # the same of test spots, drawn apart
    cache: str | None = None

    @field_validator("features", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, str | list | tuple) and value and all(isinstance(v, str) and v for v in value):
            return value
        raise PydanticCustomError("names", "Expected a name or a list of names such as [builtin, uni_v1]")

    @field_validator("root", "cache")
    @classmethod
    def _paths(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if value is None else safe_path(value, f"data.{info.field_name}")

    @property
    def surroundings(self) -> tuple[int, ...]:
        """The context, none where nothing has been chosen yet."""
        return self.context or ()

    @property
    def reading(self) -> dict[str, Any]:
        """How features are read, as arguments of `agl.data.dataset.open_dataset`."""
        settings: dict[str, Any] = {"features": self.features, "normalise": self.normalise, "formats": self.formats}
        settings |= {"context": self.surroundings, "places": bool(self.places)}
        return settings | {"min_matched": self.min_matched}

    @property
    def features_label(self) -> str:
        """The features in a few words, for tables.

        >>> Data(features=("builtin", "emb/uni"), context=(8, 24), normalise="slide").features_label
        'builtin + uni, context 8 24, per slide'
        """
        names = (self.features,) if isinstance(self.features, str) else self.features
        label = " + ".join({"none": "patches"}.get(name, Path(name).name) for name in names)
        label += f", context {' '.join(map(str, self.surroundings))}" if self.surroundings else ""
        label += ", per slide" if self.normalise == "slide" else ""
        return label + (", places" if self.places else "")


class Validation(Section):
    """Which part of the training spots decides when to stop."""

    fraction: float = Field(0.2, gt=0, lt=1)
    unit: Literal["auto", "patient", "slide", "blocks", "random"] = "auto"


class Outer(Section):
    """How a learned selection is tuned: the outer problem."""

    engine: Annotated[Component, Slot("engine")] = Component(name="auto")
    steps: int = Field(2, ge=1, le=1000)  # H: inner steps of the look-ahead
    per: Literal["epoch", "batch"] = "epoch"  # "batch": a pass over the training spots, an outer step after each batch
    batches: int = Field(4, ge=1, le=10_000)  # hypergradients averaged for one outer step, where it is one per epoch
    every: int = Field(2, ge=1)  # epochs between outer steps
    start: int = Field(1, ge=0)  # first epoch with an outer step
    batch_size: int = Field(256, ge=2)
    learning_rate: float = Field(2e-2, gt=0)
    inner_optimizer: Literal["training", "adam", "adamw", "adam_higher", "sgd"] = "training"
    inner_learning_rate: float | None = Field(None, gt=0)  # None: the training's own
    inner_scale: float = Field(1.0, gt=0)  # factor of the look-ahead's loss; released: 1 / 64, the batch once more
    same_batch: bool = False  # all inner steps on one batch, as in the paper
    warm: bool = True  # start the inner optimiser from the training optimiser's state
    statistics: Literal["training", "batch", "frozen"] = "training"  # of batch norm: "batch": outer batches have their
    # own, "training": the running ones there; "frozen": the running ones in the inner problem too
    augment: bool = False  # outer batches are augmented as training batches are
    fraction: float = Field(0.25, gt=0, lt=1)  # of the training spots, held out for the outer loss
    refit: bool = True  # then train anew, with the weights found, on all training spots
    unit: Literal["auto", "patient", "slide", "blocks", "random", "validation"] = "auto"


class Auxiliary(Section):
    """Which genes are learnt beside the primary ones, and how they count."""

    genes: Annotated[Component, Slot("gene_set", "selector")] = Component(name="auto")
    min_detection: float = Field(0.05, ge=0, le=1)  # candidates: detected in this share of the training spots
    objective: Annotated[Component, Slot("objective")] = Component(name="balanced")
    strength: float = Field(4.0, ge=0)
    gate: Literal["loss", "trunk"] = "loss"
    merge: Annotated[Component, Slot("merge")] = Component(name="sum")  # of the trunk's gradients, for rivals
    outer: Outer = Outer()


class Scoring(Section):
    """How test spots are scored."""

    depth: Literal["plain", "partial"] = "plain"  # "partial": correlations with a spot's depth partialled out


class Training(Section):
    """The loop."""

    epochs: int = Field(200, ge=1)
    batch_size: int = Field(256, ge=2)
    sampler: Annotated[Component, Slot("sampler")] = Component(name="grouped")
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    patience: int = Field(30, ge=1)
    monitor: Literal["scc", "pcc"] = "scc"
    clip: float | None = Field(None, gt=0)  # largest norm of the gradient
    augment: Annotated[Component, Slot("augment")] = Component(name="none")  # of patches, in training batches only
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # lower precision acts on a GPU only
    device: str = "auto"
    threads: int = Field(1, ge=1, le=1024)  # part of the run: sums in another order are other bits
    workers: int = Field(
        0, ge=0, le=256
    )  # processes that read patches ahead; no part of the run, the bits are the same
    checkpoint_every: int = Field(10, ge=1)


class Config(Section):
    """One run, or, where `fold` is None, one run for every fold."""

    name: str = "run"
    output: str = "runs"
    seed: int = Field(0, ge=0)
    fold: int | None = Field(None, ge=0)
    data: Data = Data()
    split: Annotated[Component, Slot("split")] = Component(name="leave_one_patient_out")
    allow_leaks: tuple[Literal["patient", "slide", "duplicate"], ...] = ()  # on both sides of a split, and shown
    validation: Validation = Validation()
    primary: Annotated[Component, Slot("primary")] = Component(name="dispersion")
    auxiliary: Auxiliary = Auxiliary()
    model: Annotated[Component, Slot("model", "estimator")] = Component(name="committee")
    loss: Annotated[Component, Slot("loss")] = Component(name="listwise")
    training: Training = Training()
    plugins: Annotated[tuple[Component, ...], Slot("plugin")] = ()
    scoring: Scoring = Scoring()
    choose: dict[str, tuple[Any, ...]] = Field(default_factory=dict)  # key -> values, the simplest first: one is chosen
    # inside the training spots of every fold, see `agl.runs.choosing`

    @field_validator("choose", mode="before")
    @classmethod
    def _dotted(cls, value: Any) -> Any:
        """`choose.model.penalty=[1, 10]` is the key model.penalty."""
        return flat_lists(value) if isinstance(value, Mapping) else value

    @field_validator("name")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        return safe_name(value, "name")

    @field_validator("output")
    @classmethod
    def _path(cls, value: str) -> str:
        return safe_path(value, "output")

    def to_dict(self) -> dict[str, Any]:
        """Plain, ordered, YAML-ready."""
        tree = self.model_dump(mode="json")
        if not self.choose:
            del tree["choose"]  # most configs leave nothing open
        if self.scoring == Scoring():
            del tree["scoring"]  # runs of before it was a key have the same id
        for part, kind, keys in (
            (tree["data"], Data, ("library", "patients", "thin", "thin_test")),
            (tree["auxiliary"]["outer"], Outer, ("per", "inner_scale", "statistics", "augment")),
        ):
            for key in keys:
                if part[key] == kind.model_fields[key].default:
                    del part[key]  # for the same reason
        if not tree["data"]["places"]:
            del tree["data"]["places"]
        if tree["auxiliary"]["merge"] == {"name": "sum"}:
            del tree["auxiliary"]["merge"]
        return tree

    def with_(self, *words: str) -> Config:
        """The same run with dotted overrides.

        >>> Config().with_("loss=mse", "training.learning_rate=3e-5").training.learning_rate
        3e-05
        """
        tree = self.to_dict()
        for word in words:
            apply_override(tree, word)
        return validate(tree)


def load(files_and_overrides: Sequence[str | Path]) -> Config:
    """Defaults, then YAML files, then `key=value` words, in the order they are given.

    >>> load(["loss=mse", "loss.target=log1p"]).loss.args
    {'target': 'log1p'}
    """
    return validate(read_tree(files_and_overrides))


def validate(tree: Mapping[str, Any]) -> Config:
    """A config, or one sentence about the first thing that is wrong with it."""
    return validate_as(Config, tree)


def validate_as(kind: type[Kind], tree: Mapping[str, Any]) -> Kind:
    """Settings of one kind, or one sentence about the first thing that is wrong with them."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, kind)) from None


def _explain(error: ValidationError, kind: type[Section]) -> str:
    first = error.errors()[0]
    *parents, last = [str(part) for part in first["loc"]] or [""]
    place = ".".join([*parents, last])
    if first["type"] == "extra_forbidden":
        known = _keys_at(kind, parents)
        return (
            f"Unknown key {place!r} in the config.{did_you_mean(place, ['.'.join([*parents, key]) for key in known])}"
        )
    if first["type"] in WANTED:
        return f"Expected {WANTED[first['type']]} at the config key {place!r}, received {shortened(first['input'])}."
    return f"Config key {place!r}: {first['msg'][:1].lower()}{first['msg'][1:]}, received {shortened(first['input'])}."


def _keys_at(kind: type[Section], path: list[str]) -> list[str]:
    model: Any = kind
    for key in path:
        model = model.model_fields[key].annotation
    return list(model.model_fields)
