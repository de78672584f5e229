"""What a config comes to: every component with its defaults, and nothing that the run does not use."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from agl import registry
from agl.config import Auxiliary, Component, Config, Outer, Section, Training, slots
from agl.errors import UserError
from agl.estimators.start import read_start
from agl.places import not_a_file
from agl.runs.options import chosen_config, options_of_config
from agl.training.loading import data_folder

NO_AUXILIARY = Auxiliary(genes=Component(name="none"))
CLOSED_FORM = "closed_form"
LEFT_OPEN = "auto"  # the name of a component that the model is yet to say
UNUSED = "none"  # the name of a component that a run has no use for


def complete(config: Config) -> Config:
    """The config with every component's defaults written out: equal runs have equal configs.

    What a run does not use takes its default: an estimator's loss, auxiliary genes and training, the balance
    where there are no auxiliary genes, a gene set's outer problem. Of a config that leaves something open
    (`choose:`) every option must come to something; itself it keeps all that an option may use.
    """
    check_names(config)
    if config.choose:
        options = options_of_config(config)
        for chosen in product(*(range(len(each)) for each in options.factors)):
            complete(chosen_config(config, options.words(chosen)))
        return Config.model_validate(_completed(config, config, is_open=True))
    config = without_unused(with_choices(config))
    return Config.model_validate(_completed(config, config))


def check_names(config: Config) -> None:
    """Every component that is named must be there, also one that this run has no use for: a slip is a slip."""
    for kinds, component in standing(config):
        if component.name not in (UNUSED, "auto"):
            registry.find(registry.which(kinds, component.name), component.name)


def with_choices(config: Config) -> Config:
    """The config with what is left open chosen, as the model's class says by `surroundings` and `auxiliary_genes`.

    A model that says nothing sees no surroundings and learns no auxiliary genes.
    """
    model = registry.find(registry.which(("model", "estimator"), config.model.name), config.model.name)
    if config.data.context is None:
        context = () if config.data.features == "none" else tuple(getattr(model, "surroundings", ()))
        config = config.model_copy(update={"data": config.data.model_copy(update={"context": context})})
    asks = bool(getattr(model, "places", False))
    if asks and config.data.places is False:
        raise UserError(
            f"Expected data.places=true for the model {config.model.name!r}, received false: it asks where spots lie. "
            "Leave the key out."
        )
    if asks and config.data.places is None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"places": True})})
    if config.auxiliary.genes.name == LEFT_OPEN:
        name = getattr(model, "auxiliary_genes", "none")
        genes = Component.model_validate({"name": name, **config.auxiliary.genes.args})
        config = config.model_copy(update={"auxiliary": config.auxiliary.model_copy(update={"genes": genes})})
    return config


def without_unused(config: Config) -> Config:
    """The config with the defaults in place of what its model, or its gene set, has no use for."""
    if registry.is_estimator(config.model):
        if config.auxiliary.merge != NO_AUXILIARY.merge:
            raise UserError(
                f"Expected a network for auxiliary.merge={config.auxiliary.merge.name}, received a model that is "
                "solved, which takes no steps. Use model=mlp."
            )
        config = config.model_copy(update=_unused_by_estimator(config))
    if config.auxiliary.genes.name == "none":
        return config.model_copy(update={"auxiliary": NO_AUXILIARY})
    if registry.which(("gene_set", "selector"), config.auxiliary.genes.name) == "gene_set":
        return config.model_copy(update={"auxiliary": config.auxiliary.model_copy(update={"outer": Outer()})})
    if registry.is_estimator(config.model):
        outer = _outer_of_estimator(config.auxiliary.outer)
        return config.model_copy(update={"auxiliary": config.auxiliary.model_copy(update={"outer": outer})})
    if config.auxiliary.outer.engine.name == CLOSED_FORM:
        raise UserError(
            "Expected a model that is solved for auxiliary.outer.engine=closed_form, received a network, which is "
            "trained step by step. Use model=low_rank or model=committee, or another engine."
        )
    return config


def _unused_by_estimator(config: Config) -> dict[str, Any]:
    """What an estimator has no use for: nearly all of the training; without a panel the loss and other genes, too."""
    device = {key: getattr(config.training, key) for key in ("device", "threads", "monitor")}
    unused: dict[str, Any] = {"training": Training(**device)}
    if not registry.takes_sample(registry.find("estimator", config.model.name)):
        unused |= {"loss": Component(name=UNUSED), "auxiliary": NO_AUXILIARY, "plugins": ()}
    return unused


def _outer_of_estimator(outer: Outer) -> Outer:
    """Of the outer problem's settings, those that mean something without inner steps."""
    if outer.engine.name not in ("auto", CLOSED_FORM):
        raise UserError(
            f"Expected auxiliary.outer.engine=closed_form with a model that is solved, received {outer.engine.name!r}, "
            "which follows a network's training. Leave it out, or use model=mlp."
        )
    return Outer(engine=Component(name=CLOSED_FORM), learning_rate=outer.learning_rate)


def components(config: Config) -> list[Component]:
    """Every component of a config, those that are arguments of others too."""
    return [each for kinds, component in standing(config) for each in _with_nested(kinds, component)]


def standing(part: Section) -> Iterator[tuple[tuple[str, ...], Component]]:
    """Every component that stands in a slot of the config, with the kinds the slot is for."""
    marks = slots(type(part))
    for key in type(part).model_fields:
        value = getattr(part, key)
        if key in marks:
            for component in [value] if isinstance(value, Component) else value:
                yield marks[key].kinds, component
        elif isinstance(value, Section):
            yield from standing(value)


def _no_component(kinds: tuple[str, ...], component: Component) -> bool:
    """Whether nothing stands there: the run has no use for any, or what it is to be is left open."""
    return component.name in (UNUSED, LEFT_OPEN) and not any(registry.has(kind, component.name) for kind in kinds)


def _with_nested(kinds: tuple[str, ...], component: Component) -> list[Component]:
    if _no_component(kinds, component):
        return []
    return list(registry.with_nested(registry.which(kinds, component.name), component))


def _completed(part: Section, config: Config, *, is_open: bool = False) -> dict[str, Any]:
    """A part of the config as plain values, its components completed; what an open config leaves to the model stays."""
    tree, marks = part.model_dump(mode="json"), slots(type(part))
    for key in type(part).model_fields:
        value = getattr(part, key)
        if key in marks:
            many = not isinstance(value, Component)
            found = [_component(marks[key].kinds, each, config) for each in (value if many else [value])]
            if key == "model" and not is_open and "start" in found[0] and registry.has("model", found[0]["name"]):
                found[0]["start"] = read_start(found[0]["start"], config.loss)
            tree[key] = found if many else found[0]
        elif isinstance(value, Section):
            tree[key] = _completed(value, config, is_open=is_open)
    return tree


def _component(kinds: tuple[str, ...], component: Component, config: Config) -> dict[str, Any]:
    """A component with its defaults, and with a `path` or `folder` found here or in the data folder."""
    if _no_component(kinds, component):
        return component.model_dump(mode="json")
    kind = registry.which(kinds, component.name)
    tree = registry.complete(kind, component).model_dump(mode="json")
    for word in ("path", "folder"):
        given = tree.get(word)
        if isinstance(given, str) and not Path(given).exists():
            below = Path(data_folder(config)) / given
            if not below.exists():
                raise UserError(f"Expected a {word} at {given} or {below} for {kind} {component.name!r}, found none.")
            tree[word] = str(below)
        if word == "path" and isinstance(given, str) and (wrong := not_a_file(tree[word])) is not None:
            what = f"the folder {given}" if "folder" in wrong else f"{given}: {wrong}"
            raise UserError(f"Expected a file as path of the {kind} {component.name!r}, received {what}.")
    return tree
