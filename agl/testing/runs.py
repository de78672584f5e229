"""Run folders in the documented format, written without training: scores are the truth plus noise of a known size."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from agl.config import load
from agl.runs.files import write_json
from agl.scoring import expression, gene_table, summary

GENES = [f"GENE{i}" for i in range(12)]
CANDIDATES = [f"AUX{i}" for i in range(30)]


@dataclass(frozen=True)
class ExampleSlides:
    """Slides of patients with counts; every run tests the slides of one patient."""

    patients: dict[str, list[str]]  # patient -> slides
    spots: int = 36
    key: str = "worldkey"
    spots_key: str = ""  # as runs of before it was recorded

    def slides(self, fold: int) -> list[str]:
        """The test slides of a fold."""
        return self.patients[list(self.patients)[fold]]

    def counts(self, slide: str) -> np.ndarray:
        """[spot, gene]; the last gene is never seen on slides whose name ends in 0, so its score is undefined there."""
        rng = np.random.default_rng(zlib.crc32(f"{self.key}{slide}".encode()))
        side = int(np.sqrt(self.spots))
        x, y = np.meshgrid(np.arange(side), np.arange(side))
        wave = np.sin(x / side * 3 + rng.normal()) + np.cos(y / side * 2 + rng.normal())
        rate = np.exp(wave.ravel()[:, None] * 0.6 + np.linspace(-1, 2, len(GENES))[None, :])
        counts = rng.poisson(rate)
        if slide.endswith("0"):
            counts[:, -1] = 0
        return counts


def write_run(
    root: Path,
    world: ExampleSlides,
    *words: str,
    fold: int,
    seed: int = 0,
    noise: float = 1.0,
    chosen: Sequence[str] = (),
    optimistic: bool = False,
) -> Path:
    """One finished run below `root`. `noise` is the size of the error of its scores."""
    shared = ["model=mlp", "auxiliary.genes=none", "data.context=[]"]  # a network: it has a loss, and epochs
    config = load([f"output={root}", f"fold={fold}", f"seed={seed}", *shared, *words])
    folder = root / config.name / f"{config.loss.name}.f{fold}.s{seed}.{zlib.crc32(repr(words).encode()):08x}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    slides = world.slides(fold)
    counts = np.concatenate([world.counts(slide) for slide in slides])
    names = np.repeat(slides, world.spots)
    library = counts.sum(1) + 50
    rng = np.random.default_rng([fold, seed, zlib.crc32(repr(words).encode())])
    truth = expression(torch.from_numpy(counts), library).numpy()
    truth = (truth - truth.mean(0)) / np.maximum(truth.std(0), 1e-6)
    scores = (truth + noise * rng.normal(size=truth.shape)).astype(np.float32)
    table = gene_table(torch.from_numpy(scores), torch.from_numpy(counts.astype(np.float32)), library, names, GENES)
    table.to_csv(folder / "per_gene.csv", index=False)
    side = int(np.sqrt(world.spots))
    grid = np.arange(world.spots)
    np.savez_compressed(
        folder / "predictions.npz",
        scores=scores, counts=counts.astype(np.int32), library_size=library, genes=np.asarray(GENES),
        slide=names.astype(str), barcode=np.asarray([f"b{i}" for _ in slides for i in grid]),
        x=np.tile(grid % side, len(slides)) * 100.0, y=np.tile(grid // side, len(slides)) * 100.0,
    )  # fmt: skip
    panel = pd.DataFrame({"gene": GENES, "role": "primary", "weight": 1.0})
    if config.auxiliary.genes.name != "none":
        weights = [float(gene in chosen) for gene in CANDIDATES]
        panel = pd.concat([panel, pd.DataFrame({"gene": CANDIDATES, "role": "auxiliary", "weight": weights})])
    panel["mean"] = np.random.default_rng(1).random(len(panel))
    panel.to_csv(folder / "panel.csv", index=False)
    lines = [{"epoch": e, "scc": 0.1 + e / 50, "primary_loss": 3 / e} for e in range(1, 6)]
    if chosen:
        lines = [line | {"k": 30 - (30 - len(chosen)) * line["epoch"] // 5, "phi/c": 0.9} for line in lines]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    train = [slide for i in range(len(world.patients)) for slide in world.slides(i) if i != fold]
    patient = {slide: name for name, slides in world.patients.items() for slide in slides}
    provenance: dict[str, Any] = {
        "finished": "2026-01-01T00:00:00+00:00", "seconds": 12.5, "peak_memory_mib": 512.0, "command": ["train"],
        "code": {"commit": "0123456789abcdef", "changed": False}, "packages": {"agl": "0.1.0", "torch": "2.4"},
        "python": "3.11", "machine": "Linux x86_64", "device": "cpu", "seed": seed,
        "data": {
            "root": str(config.data.root or "simulated"),
            "key": world.key + ("-permuted" if config.data.permute else ""),
            **({"spots": world.spots_key} if world.spots_key else {}),
            "report": {"sections": {slide: {"patient": patient[slide]} for slide in patient}},
        },
        "split": {
            "name": f"patient={list(world.patients)[fold]}", "protocol": config.split.name, "optimistic": optimistic,
            "spots": {"train": 100, "validation": 20, "test": len(counts)},
            "slides": {"train": train, "validation": train[:1], "test": slides}, "sha256": f"{fold:064x}",
        },
        "plugin_files": {},
    }  # fmt: skip
    write_json(folder / "provenance.json", provenance)
    write_json(folder / "result.json", summary(table) | {"epochs": 5, "optimistic": optimistic})
    return folder


def write_choice(folder: Path) -> None:
    """A choice between two losses, as a run with `choose:` leaves it."""
    rows: list[dict[str, Any]] = [
        {"answers": {"loss": loss}, "mean": mean, "standard_error": 0.02, "scores": [mean - 0.02, mean + 0.02]}
        for loss, mean in (("mse", 0.2), ("listwise", 0.25))
    ]
    choice: dict[str, Any] = {
        "left_out": "2 folds of slides",
        "score": "scc",
        "questions": {"loss": ["mse", "listwise"]},
    }
    choice |= {
        "slides": ["A", "B"],
        "options": [row | {"seconds": 1.0} for row in rows],
        "chosen": {"loss": "listwise"},
    }
    write_json(folder / "choice.json", choice)


def write_curve(folder: Path) -> None:
    """The curve over k of a selection that was solved, in a run's result."""
    result = json.loads((folder / "result.json").read_text("utf-8"))
    curve = {"k": [0, 5, 30], "scc": [0.2, 0.24, 0.23], "standard_error": [0.02, 0.02, 0.02]}
    said: dict[str, Any] = {"outer_signal": "clear", "discoveries": 3, "harmful": 0, "planted": 240}
    write_json(
        folder / "result.json", result | said | {"curve": curve, "best_k": 5, "as_good_from": 2, "as_good_to": 30}
    )


def write_spread(folder: Path) -> None:
    """A spread beside the scores of a run, as a committee leaves it."""
    path = folder / "predictions.npz"
    with np.load(path) as saved:
        arrays = dict(saved)
    spread = 0.1 + np.random.default_rng(0).random(arrays["scores"].shape) * np.abs(arrays["scores"])
    np.savez_compressed(path, **arrays, spread=spread.astype(np.float32))


def write_stains(folder: Path) -> None:
    """Weights with stain vectors of their own, as a model that learns them leaves in a run's folder."""
    from safetensors.torch import save_file

    from agl.data.images.stain import stain_matrix

    (folder / "checkpoints").mkdir(exist_ok=True)
    vectors = stain_matrix() + 0.05 * torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    save_file({"vectors": vectors, "plane": torch.eye(3)[:2].clone()}, folder / "checkpoints" / "best.safetensors")


def write_search(root: Path, runs: Sequence[Path], values: Sequence[float] | None = None) -> None:
    """A journal in `root` with a search in it: a trial for each of some runs, learning rates 0.1, 0.01, ..."""
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(root / "study.journal")))
    study = optuna.create_study(storage=storage, study_name=root.name, direction="maximize")
    optuna.logging.set_verbosity(before)
    study.set_user_attr("kind", "search")
    for i, folder in enumerate(runs):
        trial = optuna.trial.create_trial(
            params={"training.learning_rate": 10.0 ** (-1 - i)}, value=0.1 * i if values is None else values[i],
            distributions={"training.learning_rate": FloatDistribution(1e-9, 1)},
            user_attrs={"runs": [str(folder)], "cell": str(i)},
        )  # fmt: skip
        study.add_trial(trial)
