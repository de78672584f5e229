"""A model in a folder of its own, to be given away: no training data, no pickle, a card to read.

model.json           genes, recipe, kind of scores, where it comes from, how it scored
weights.safetensors  the weights
config.yaml          of the run it comes from
per_gene.csv         its test scores, gene by gene, beside the noise ceiling
README.md            the model card
*.py                 the file of a model of your own, if it is one

An ensemble has no weights of its own: its members are models like this one, in member-0, member-1, ...
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from agl.config import load
from agl.errors import ModelError
from agl.estimators import written
from agl.estimators.networks import network
from agl.places import expanded
from agl.prediction.card import card
from agl.prediction.ensemble import Averaged
from agl.prediction.fitted import FittedModel
from agl.prediction.recipe import Recipe
from agl.prediction.scorers import Network, Solved

VERSION = 1
ENSEMBLE, MEMBER = "ensemble", "member-"
NAMES = ("model.json", "weights.safetensors", "config.yaml")


def save(model: FittedModel, folder: Path) -> Path:
    """Write a model into a new folder, whole or not at all.

    Raises:
        ModelError: a folder that is there already, scores that cannot be written.
    """
    from safetensors.torch import save_file

    if folder.exists():
        raise ModelError(f"Expected a new folder for the model, {folder} is there. Choose another, or remove it.")
    kind, tensors, n_genes = _weights(model)
    members = model.scorer.members if isinstance(model.scorer, Averaged) else ()
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        config = _with_own_files(model, part)
        for position, member in enumerate(members):
            save(member, part / f"{MEMBER}{position}")
        if not members:
            save_file({key: value.contiguous() for key, value in tensors.items()}, str(part / "weights.safetensors"))
            (part / "weights.safetensors").chmod(0o644)  # safetensors lets only the owner read
        about = {key: value for key, value in model.about.items() if key != "per_gene"}
        (part / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        tree = {"format": VERSION, "kind": kind, "genes": list(model.genes), "heads": n_genes}
        tree |= {"recipe": model.recipe.to_dict(), "about": about}
        tree |= {"sha256": {name: _digest(part / name) for name in NAMES[1:] if (part / name).is_file()}}
        (part / "model.json").write_text(json.dumps(tree, indent=1), "utf-8")
        if "per_gene" in model.about:
            (part / "per_gene.csv").write_text(model.about["per_gene"], "utf-8")
        (part / "README.md").write_text(card(model), "utf-8")
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def read(folder: Path, *, trust: bool = False) -> FittedModel:
    """Read a model that was saved.

    Args:
        trust: also one that comes with Python code of its own, which is then run.

    Raises:
        ModelError: no model there, a damaged one, one of a newer version, one with code that is not trusted.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    members = [path for i in range(len(list(folder.glob(f"{MEMBER}*")))) if (path := folder / f"{MEMBER}{i}").is_dir()]
    missing = [name for name in NAMES if not (folder / name).is_file() and not (members and "weights" in name)]
    if missing:
        raise ModelError(f"Expected a saved model in {folder}, found no {missing[0]}. Was it written by agl export?")
    try:
        tree = json.loads((folder / "model.json").read_text("utf-8"))
        recipe, genes = Recipe.from_dict(tree["recipe"]), tuple(map(str, tree["genes"]))
        for name, digest in tree["sha256"].items():
            if _digest(folder / name) != digest:
                raise ValueError(f"{name} is not what was written")
        tensors = {} if members else load_file(str(folder / "weights.safetensors"))
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(f"Expected a model in {folder}, received a damaged one ({error}). Copy it again.") from None
    if tree.get("format") != VERSION:
        raise ModelError(f"Expected a model of format {VERSION}, {folder} has {tree.get('format')}. Update agl.")
    config = load([folder / "config.yaml"])
    if tree["kind"] == ENSEMBLE:
        if len(members) != int(tree["heads"]):
            raise ModelError(f"Expected {tree['heads']} members in {folder}, found {len(members)}. Copy it again.")
        scorer: Any = Averaged(tuple(read(member, trust=trust) for member in members), genes)
    elif tree["kind"] != "network":
        scorer = Solved(written.read(tree["kind"], tensors))
    else:
        component = config.model
        if ".py:" in component.name:
            if not trust:
                raise ModelError(
                    f"Expected a model without code, {folder} brings {component.name}. Read that file; if you "
                    "trust it, say so with trust=True (--trust)."
                )
            file, _, attribute = component.name.rpartition(":")
            component = component.model_copy(update={"name": f"{folder / Path(file).name}:{attribute}"})
        width = recipe.surroundings.width(sum(size for _, size in recipe.encoders)) if recipe.encoders else None
        scorer = Network(network(component, tensors, width, int(tree["heads"])), len(genes))
    per_gene = folder / "per_gene.csv"
    about = dict(tree["about"]) | ({"per_gene": per_gene.read_text("utf-8")} if per_gene.is_file() else {})
    return FittedModel(genes, recipe, scorer, config, about)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _weights(model: FittedModel) -> tuple[str, dict[str, Any], int]:
    """Kind of the scores, tensors, number of heads; of an ensemble, of members."""
    if isinstance(model.scorer, Averaged):
        return ENSEMBLE, {}, len(model.scorer.members)
    if isinstance(model.scorer, Network):
        state = {key: value.detach().cpu() for key, value in model.scorer.model.state_dict().items()}
        return "network", state, int(model.about["heads"])
    found = written.written(getattr(model.scorer, "fitted", None))
    if found is None:
        raise ModelError(
            f"Expected a model that can be written down, received {model.config.model.name!r}: what it is fitted to "
            "has no method `linear()` that gives agl.estimators.convex.LinearScores. Add one, or predict from its run."
        )
    return found[0], found[1], len(model.genes)


def _with_own_files(model: FittedModel, folder: Path) -> dict[str, Any]:
    """The config without places on this machine; a model of a user's own is copied beside it."""
    tree = model.config.to_dict()
    tree["data"].update(root=None, cache=None)
    del tree["output"]
    name = model.config.model.name
    if ".py:" in name:
        file, _, attribute = name.rpartition(":")
        shutil.copyfile(expanded(file), folder / Path(file).name)
        tree["model"]["name"] = f"{Path(file).name}:{attribute}"
    return tree
