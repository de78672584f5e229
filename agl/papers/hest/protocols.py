"""Three ways to score the same task, never mixed in a table.

hest: the benchmark's own. Its 50 genes (chosen with the test spots in sight), its folds, PCA-256 and ridge on
log(1 + count), Pearson over all test spots of a fold pooled.

strank: the STRank paper's, as released and patient-safe. One linear head on frozen features, AdamW 5e-5, batches of 256
spots of all slides mixed, patience 30, one validation and one test slide, Spearman. Released: the slides of its script,
and the 50 genes of the largest variance over all slides, test included. Patient-safe: no slide of the test slide's
patient decides anything, and the genes come from training spots. Beside the script, ours stops by the score instead of
the loss, takes library sizes over all genes, and keeps spots that its quality filter drops.

sound: what we would do. The benchmark's folds, which hold out patients; primary genes and scalers from training spots;
Spearman and Pearson per slide; ridge beside a small network with the list loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

import strank
from agl.config import Config, validate
from agl.data.dataset import open_dataset
from agl.errors import UserError
from agl.genes.primary import variance
from agl.genes.training import TrainingSpots
from agl.papers.hest.folders import PANEL, BenchmarkTask
from agl.papers.hest.published import STRANK, STRANK_SLIDES, task_name
from agl.runs.files import write_json
from agl.trees import apply_override

Protocol = Literal["hest", "strank", "strank-safe", "sound"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)
LEAKS = ["patient", "slide", "duplicate"]
AGL_COMPONENTS = ("pearson_pooled",)  # what a config may name here, see `agl.origins`


@dataclass(frozen=True)
class Job:
    """One config of a protocol, for one task and encoder."""

    protocol: str
    task: str
    encoder: str
    method: str
    config: Config


def jobs(
    protocol: str, task: BenchmarkTask, encoder: str, features: str, output: Path, words: list[str]
) -> Iterator[Job]:
    """Every config a protocol trains on one task with one encoder's features; `words` are the user's overrides.

    Raises:
        UserError: a task that the protocol says nothing about.
    """
    makers: dict[str, Callable[[BenchmarkTask, str, Path], Iterator[tuple[str, dict[str, Any]]]]] = {
        "hest": _hest,
        "strank": _strank,
        "strank-safe": _strank_safe,
        "sound": _sound,
    }
    for method, tree in makers[protocol](task, features, output):
        yield job_of(protocol, task, encoder, features, output, words, method, tree)


def job_of(
    protocol: str,
    task: BenchmarkTask,
    encoder: str,
    features: str,
    output: Path,
    words: list[str],
    method: str,
    tree: dict[str, Any],
) -> Job:
    """The config of one method: what the protocol says, on one task and encoder, with the user's overrides."""
    data = {"root": str(task.folder), "features": features, **tree.get("data", {})}
    merged = {"name": f"{protocol}.{task.name}.{encoder}", "output": str(output), **tree, "data": data}
    for word in words:
        apply_override(merged, word)
    return Job(protocol, task.name, encoder, method, validate(merged))


def hest_tree(model: str | dict[str, Any]) -> dict[str, Any]:
    """The benchmark's folds, genes and spots for an estimator."""
    return {
        "data": {"min_counts": 0},
        "split": "hest_csv",
        "primary": {"name": "file", "path": PANEL},
        "model": model,
        "allow_leaks": LEAKS,
    }


def _hest(task: BenchmarkTask, features: str, output: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "hest-pca256", hest_tree("hest-pca256")


def _strank(task: BenchmarkTask, features: str, output: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    validation, test = _slides(task)
    panel = output / f"{task.name}.variance_over_all_slides.json"
    output.mkdir(parents=True, exist_ok=True)
    write_json(panel, {"genes": largest_variance(task, features)})
    split = {"name": "named_slides", "test": [test], "validation": [validation]}
    yield from _linear(split, {"name": "file", "path": str(panel.resolve())}, LEAKS)


def _strank_safe(task: BenchmarkTask, features: str, output: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    validation, test = _slides(task)
    train = [slide for slide in task.slides if slide not in task.same_patient(test)]
    split: dict[str, Any] = {"name": "named_slides", "test": [test]}
    apart = [slide for slide in train if slide not in task.same_patient(validation)]
    if validation in train and apart:
        split |= {"validation": [validation]}
        train = apart
    if not train:
        raise UserError(
            f"Expected slides of other patients than the test slide's in {task.name}, found none. Take another task."
        )
    yield from _linear({**split, "train": train}, {"name": "variance"}, [])


def _linear(split: dict[str, Any], primary: dict[str, Any], leaks: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for loss in STRANK:
        yield (
            loss,
            {
                "split": split,
                "primary": primary,
                "model": "linear",
                "loss": "agl.papers.hest.protocols:pearson_pooled" if loss == "pearson_pooled" else loss,
                "training": {"learning_rate": 5e-5, "epochs": 1000, "patience": 30, "sampler": "shuffled"},
                "allow_leaks": leaks,
            },
        )


def _sound(task: BenchmarkTask, features: str, output: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "ridge", {"split": "hest_csv", "model": "ridge"}
    yield "mlp, listwise", {"split": "hest_csv", "model": "mlp", "loss": "listwise"}


def _slides(task: BenchmarkTask) -> tuple[str, str]:
    pair = STRANK_SLIDES.get(task_name(task.name))
    if pair is None:
        raise UserError(
            f"Expected a task that STRank names slides for ({', '.join(STRANK_SLIDES)}), received {task.name}."
        )
    for slide in pair:
        if slide not in task.slides:
            raise UserError(f"Expected slide {slide}, which STRank's protocol names for {task.name}, found none.")
    return pair


def largest_variance(task: BenchmarkTask, features: str, k: int = 50) -> list[str]:
    """The k genes of the largest variance of log(1 + 10^4 count / library size) over all slides, as STRank's script.

    Test spots are among them: that is the script's protocol, not ours.
    """
    dataset = open_dataset(str(task.folder), features=features, min_counts=1)
    chosen = variance(TrainingSpots.of(dataset, np.arange(len(dataset.spots))), k=k)
    return [str(gene) for gene in np.asarray(dataset.genes)[np.asarray(chosen)]]


def pearson_pooled(scores: Tensor, counts: Tensor) -> Tensor:
    """The released PCC baseline: `strank.pearson_loss` over the spots of all slides together, `[gene]`."""
    return strank.pearson_loss(scores, counts)
