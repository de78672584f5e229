"""Folders of data that are another thing than they are taken for, and options of commands that cannot be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile.kinds import DAMAGED
from tests.hostile.stage import QUICK, Case


def _in(work: Path, *names: str) -> Path:
    place = work.joinpath("it", *names)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


FOLDERS: dict[str, Callable[[Path], object]] = {
    "an empty folder": lambda work: _in(work).mkdir(),
    "a folder of empty folders": lambda work: [_in(work, name).mkdir(parents=True) for name in ("adata", "patches")],
    "links in a circle": lambda work: [_in(work, "adata").mkdir(), _in(work, "adata", "it").symlink_to("..")],
    "a folder of pipes": lambda work: [os.mkfifo(_in(work, "adata", f"S{i}.h5ad")) for i in range(3)],
    "a folder of pictures": lambda work: _in(work, "a.png").write_bytes(b"\x89PNG\r\n\x1a\n"),
    "one section alone": lambda work: (
        shutil.copytree(work / "task" / "adata", _in(work, "adata"))
        and [(work / "it" / "adata" / f"{name}.h5ad").unlink() for name in ("P2S1", "P3S1")]
    ),
    "a folder of .zarr": lambda work: _in(work, "S1.zarr", ".zgroup").write_text("{}"),
    "Space Ranger's folder": lambda work: DAMAGED["noise"](_in(work, "filtered_feature_bc_matrix.h5")),
    "hidden files": lambda work: DAMAGED["noise"](_in(work, "adata", ".S1.h5ad")),
    "a file named as a folder": lambda work: DAMAGED["text"](_in(work, "adata")),
    "names of letters that are none": lambda work: DAMAGED["noise"](_in(work, "adata", "S\udcff.h5ad")),
    "names with new lines": lambda work: DAMAGED["noise"](_in(work, "adata", "S\n1.h5ad")),
    "pictures that are none": lambda work: [
        shutil.copytree(work / "task", _in(work)),
        DAMAGED["noise"](_in(work, "patches", "P1S1.h5")),
    ],
}
COMMANDS = {
    "train": ("train", "data.root=it", *QUICK[1:]),
    "check": ("check", "it"),
    "features": ("features", "it"),
    "recommend": ("recommend", "it", *QUICK[1:2]),
    "hest": ("hest", "it"),
}
OPTIONS: dict[str, tuple[str, ...]] = {
    "no such command": ("trian",),
    "no words": ("table",),
    "an unknown option": ("train", "--fold", "3"),
    "an option without a value": ("table", "{runs}", "--csv"),
    "a word that is no override": ("train", "seed"),
    "an override without a key": ("train", "=3"),
    "an override of capitals": ("train", "SEED=3"),
    "an override of dots": ("train", "a..b=3"),
    "an override into a number": ("train", "seed.x=3"),
    "an override into a list": ("train", "plugins=[]", "plugins.x=3"),
    "a deep override": ("train", ".".join(["a"] * 5000) + "=1"),
    "100,000 overrides": ("train", *["seed=1"] * 3000, "seed=x"),
    "an unknown kind": ("list", "lossez"),
    "no jobs": ("grid", "{study}", "--jobs", "0"),
    "a million jobs": ("grid", "{study}", "--jobs", "1000000"),
    "jobs of words": ("grid", "{study}", "--jobs", "many"),
    "negative retries": ("grid", "{study}", "--retries", "-3"),
    "a storage without a scheme": ("grid", "{study}", "--storage", "here"),
    "a storage of the web": ("grid", "{study}", "--storage", "https://example.org"),
    "a storage of nobody": ("worker", "--study", "x", "--storage", "grpc://localhost:1"),
    "a database of nobody": ("worker", "--study", "x", "--storage", "postgresql://nobody@localhost:1/x"),
    "a port that is none": ("study", "proxy", "--storage", "postgresql://a@localhost:1/x", "--port", "999999"),
    "a journal that is a database": ("study", "status", "--storage", "sqlite:///{journal}"),
    "a study that is none": ("study", "status", "nothing", "--storage", "journal:{journal}"),
    "a study of SQL": ("worker", "--study", "'; DROP TABLE studies; --", "--storage", "journal:{journal}"),
    "162,000 cells": ("grid", "{study}", f"axes.seed={list(range(450))}", f"axes.fold={list(range(360))}"),
    "a billion trials": ("search", "{study}", "search.parameters.data.min_counts=[1]", "search.trials=1000000000"),
    "an axis of nothing": ("grid", "{study}", "axes.seed=[]"),
    "an axis of a word": ("grid", "{study}", "axes.seed=3"),
    "an axis of an unknown key": ("grid", "{study}", "axes.sead=[3]"),
    "--quick without": ("grid", "{study}", "--quick"),
    "a section that is none": ("report", "{runs}", "--section", "nothing"),
    "a section of the system": ("report", "{runs}", "--section", "os:system"),
    "a baseline that is none": ("report", "{runs}", "--baseline", "loss=nothing"),
    "a gene that is none": ("report", "{runs}", "--gene", "<script>"),
    "a slide that is none": ("report", "{runs}", "--slide", "../../x"),
    "a unit that is none": ("report", "{runs}", "--unit", "gene"),
    "a section of no slide": ("predict", "{run}", "../../x"),
    "a section of nowhere": ("predict", "{run}", "../../x", "--root", "{sections}"),
    "an encoder that is none": ("features", "{sections}", "--encoder", "nothing"),
    "an encoder of the system": ("features", "{sections}", "--encoder", "../../etc"),
    "a format of the system": ("check", "{sections}", "--format", "os:system"),
    "a format that is none": ("check", "{sections}", "--format", "nothing"),
    "a task that is none": ("hest", "{sections}", "--task", "NOWHERE"),
    "a protocol that is none": ("hest", "{sections}", "--protocol", "nothing"),
    "a preset that is none": ("simulate", "it", "preset=nothing"),
    "a simulation of nobody": ("simulate", "it", "n_patients=0"),
    "a simulation of everybody": ("simulate", "it", "n_patients=1000000000"),
    "a simulation of a billion spots": ("simulate", "it", "spots_per_slide=1000000000"),
    "a simulation of a billion genes": ("simulate", "it", "n_genes=1000000000"),
    "a simulation of a huge seed": ("simulate", "it", "seed=" + "9" * 40, "spots_per_slide=12", "features=latent"),
    "a simulation of words": ("simulate", "it", "n_genes=many"),
    "an unknown option of the simulation": ("simulate", "it", "genes=3"),
    "simulated data of nobody": ("train", "data.simulate.n_patients=0"),
    "simulated data of everybody": ("train", "data.simulate.n_genes=1000000000000"),
    "the synthetic study of no case": ("synthetic", "functions=[]"),
    "the synthetic study of function 9": ("synthetic", "functions=[9]"),
    "the synthetic study of no method": ("synthetic", "methods=[]"),
    "the synthetic study of a word": ("synthetic", "methods=7"),
    "the synthetic study of the system": ("synthetic", "methods=[{label: a, loss: 'os:system'}]"),
    "the synthetic study of a billion spots": ("synthetic", "spots=1000000000000"),
    "the synthetic study of wide layers": ("synthetic", "hidden=[1000000000]"),
    "the synthetic study of a huge seed": (
        "synthetic",
        f"seeds=[{'9' * 40}]",
        "functions=[0]",
        "methods=[MSE]",
        "spots=100",
        "evaluation_spots=40",
        "epochs=1",
    ),
    "the synthetic study of negative seeds": ("synthetic", "seeds=[-1]"),
    "wide layers": ("train", *QUICK, "model=mlp", "model.hidden=[1000000000]"),
    "negative layers": ("train", *QUICK, "model=mlp", "model.hidden=[-8]"),
    "100,000,000 partners": (
        "train",
        *QUICK,
        "model=mlp",
        "model.start=none",
        "training.epochs=1",
        "loss=pairwise",
        "loss.n_partners=100000000",
    ),
    "members that are numbers": ("train", *QUICK, "model=committee", "model.members=[1]"),
    "members without penalties": ("train", *QUICK, "model=committee", "model.members=[{}]"),
    "members of words": ("train", *QUICK, "model=committee", "model.members=[{penalties: [a]}]"),
    "members of one penalty": ("train", *QUICK, "model=committee", "model.members=[{penalties: 3}]"),
    "members of a negative penalty": ("train", *QUICK, "model=committee", "model.members=[{penalties: [-1]}]"),
    "members of a rank in words": ("train", *QUICK, "model=committee", "model.members=[{penalties: [1], rank: x}]"),
    "members of a loss of the system": (
        "train",
        *QUICK,
        "model=committee",
        "model.members=[{penalties: [1], loss: 'os:system'}]",
    ),
    "members of no view": ("train", *QUICK, "model=committee", "model.members=[{penalties: [1], view: 3}]"),
    "no members": ("train", *QUICK, "model=committee", "model.members=[]"),
    "100,000 threads": ("train", *QUICK, "training.threads=100000"),
    "100,000 processes": ("train", *QUICK, "training.workers=100000"),
}
RIGHT = ("100,000,000 partners", "a simulation of a huge seed", "the synthetic study of a huge seed")


def cases() -> Iterator[Case]:
    """Folders for every command that takes one, then options."""
    for kind, make in FOLDERS.items():
        for command, words in COMMANDS.items():
            fine = command == "check" or (kind in ("pictures that are none",) and command != "features")
            yield Case("folder", f"{kind}, {command}", words, _maker(make), copies=("task",), fine=fine)
    for kind, words in OPTIONS.items():
        yield Case("option", kind, words, only=kind in RIGHT)


def _maker(make: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda work: make(work) and None
