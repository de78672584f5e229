"""Paths that lead nowhere, never end, or cannot be: at every place where a command takes one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.hostile.kinds import DAMAGED, NO_FILES
from tests.hostile.stage import NETWORK, QUICK, Case

ODD = {
    "an empty word": "",
    "300 letters": "x" * 300,
    "10,000 letters": "y/" * 5000,
    "a new line": "a\nb",
    "a home that is none": "~nobody-here/x",
    "letters that are none": "a\udcffb",
    "a slash at the end": "x/",
    "dots": "../../../../../../../..",
}
WITHOUT = tuple(word for word in QUICK if not word.startswith("data.root"))
GENES = tuple(word for word in QUICK if not word.startswith("primary"))
SHORT = (
    "functions=[0]", "samplings=[uniform]", "seeds=[0]", "methods=[MSE]", "spots=60", "evaluation_spots=20", "epochs=1",
)  # fmt: skip
READ = {  # a file, or a folder, that is read
    "train CONFIG": ("train", "{path}", *QUICK),
    "data.root": ("train", *WITHOUT, "data.root={path}"),
    "data.features": ("train", *QUICK, "data.features={path}"),
    "primary.path": ("train", *GENES, "primary=file", "primary.path={path}"),
    "gene set's path": ("train", *NETWORK, "auxiliary.genes=file", "auxiliary.genes.path={path}"),
    "prior's path": ("train", *NETWORK, "auxiliary.genes={name: top, prior: {name: file, path: '{path}'}}"),
    "split's folder": ("train", *QUICK, "split=hest_csv", "split.folder={path}"),
    "grid STUDY": ("grid", "{path}", *QUICK),
    "search STUDY": ("search", "{path}", *QUICK),
    "synthetic STUDY": ("synthetic", "{path}", *SHORT),
    "export RUN": ("export", "{path}", "--out", "model"),
    "predict SOURCE": ("predict", "{run}", "{path}", "--out", "scores.h5ad"),
    "check PATH": ("check", "{path}"),
    "check --features": ("check", "{sections}", "--features", "{path}"),
    "features ROOT": ("features", "{path}"),
    "features --weights": ("features", "{sections}", "--encoder", "uni_v1", "--weights", "{path}"),
    "recommend PATH": ("recommend", "{path}"),
    "hest ROOT": ("hest", "{path}"),
    "table FOLDER": ("table", "{path}"),
    "report FOLDER": ("report", "{path}"),
    "evaluate RUN": ("evaluate", "{path}"),
    "predict RUN": ("predict", "{path}", "P1S1"),
    "predict --root": ("predict", "{run}", "P1S1", "--root", "{path}"),
    "worker --storage": ("worker", "--study", "x", "--storage", "journal:{path}"),
    "status --storage": ("study", "status", "--storage", "journal:{path}"),
}
WRITTEN = {
    "export --out": ("export", "{run}", "--out", "{path}"),  # a file, or a folder, that is made
    "output": ("train", *QUICK, "output={path}"),
    "simulate FOLDER": ("simulate", "{path}", "spots_per_slide=12", "n_genes=80", "features=latent"),
    "report --out": ("report", "{runs}", "--out", "{path}", "--section", "summary"),
    "table --csv": ("table", "{runs}", "--csv", "{path}"),
    "predict --out": ("predict", "{run}", "P1S1", "--out", "{path}"),
    "grid --storage": ("grid", "{study}", "--storage", "journal:{path}"),
    "data.cache": ("train", *QUICK, "data.cache={path}"),
}
MAY_BE_MADE = {"nothing", "a folder", "a link to nothing", "a link to a silent device", *DAMAGED}
EMPTY = {"empty", "a Git LFS pointer", "text", "a web page"}


def cases() -> Iterator[Case]:
    """What lies there, then how it is called."""
    for where, words in READ.items():
        for kind, make in {**NO_FILES, **DAMAGED}.items():
            fine = _is_fine(where, kind)
            yield Case("path", f"{where} is {kind}", _at(words, "it"), _maker(make), fine=fine)
        for kind, path in ODD.items():
            fine = kind == "an empty word" and where in ("split's folder",)
            yield Case("path", f"{where} has {kind}", _at(words, _quoted(path, where)), fine=fine)
    for where, words in WRITTEN.items():
        for kind, make in {**NO_FILES, "a file": DAMAGED["text"]}.items():
            yield Case("written path", f"{where} is {kind}", _at(words, "it"), _maker(make), fine=True)
        for kind, path in ODD.items():
            if kind != "dots":
                yield Case("written path", f"{where} has {kind}", _at(words, _quoted(path, where)), fine=True)


def _is_fine(where: str, kind: str) -> bool:
    """An empty config is a config; an empty list of axes, runs or genes is none."""
    return where in ("train CONFIG", "synthetic STUDY") and kind in ("empty", "a link to a silent device")


def _quoted(path: str, where: str) -> str:
    """Inside a word of the config, as YAML has it."""
    return path


def _at(words: tuple[str, ...], path: str) -> tuple[str, ...]:
    return tuple(word.replace("{path}", path) for word in words)


def _maker(make):
    return lambda work: make(Path(work, "it"))
