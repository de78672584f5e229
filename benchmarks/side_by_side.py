"""Cells of a grid side by side, beside the same cells each on its own: cells per minute of one core.

    python benchmarks/side_by_side.py            # the example's sections, 72 features; 3 losses x 2 seeds x 3 folds
    python benchmarks/side_by_side.py --quick    # 2 losses, one seed, one panel
    python benchmarks/side_by_side.py --data PATH/TO/her2st

A cell is an MLP with 256 hidden units, trained until its validation score has not risen for 30 epochs, once a fold. It
is trained three ways in turn, in one process, and gives the same files each time: "side by side" shares data, folds,
panels and tables of counts with the cells before it; "alone" shares nothing; "plain" is alone and ranks the validation
counts anew after every epoch. Processor time, which says more than the clock where others are at work; imports are not
in it. "start" is what a cell takes that ends after one epoch.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import numpy as np
import torch

import strank
from agl.config import Config, load
from agl.data.expression import expression
from agl.scoring import mean_over_slides
from agl.studies.cell import train_cell
from agl.training.sharing import Sharing
from agl.training.trainer import Trainer

PRIMARY = 50
WAYS = ("side by side", "alone", "plain")


def plain_validation(trainer: Trainer) -> dict[str, float]:
    """Counts looked up, normalised and ranked as if for the first time."""
    task, dataset = trainer.task, trainer.task.loader.dataset
    scores = trainer.predict(task.validation)[:, : task.n_primary]
    counts = task.loader.counts[task.validation][:, : task.n_primary].toarray().astype(np.float32)
    library, slides = dataset.library_size[task.validation], torch.from_numpy(dataset.slide_codes[task.validation])
    target = expression(torch.from_numpy(counts)[library > 0], library[library > 0])
    given = {"slides": slides[library > 0], "per_slide": True}
    scc, pcc = (metric(scores[library > 0], target, **given) for metric in (strank.spearman, strank.pearson))
    flat = strank.pearson(target, target, **given).isfinite() & scc.isnan()
    scc, pcc = (torch.where(flat, 0.0, values) for values in (scc, pcc))
    return {"scc": mean_over_slides(scc), "pcc": mean_over_slides(pcc), "undefined": int(scc.isnan().sum()),
            "constant": int(flat.sum())}  # fmt: skip


def cells(data: str, panel: int, losses: list[str], seeds: list[int], *words: str) -> Iterator[Config]:
    """Every loss with every seed; genes beyond the primary ones are drawn."""
    genes = {"name": "random", "k": panel - PRIMARY} if panel > PRIMARY else "none"
    network = ["model.name=mlp", "model.start=none", f"data.root={data}", f"primary.k={PRIMARY}", "training.device=cpu"]
    for loss, seed in itertools.product(losses, seeds):
        yield load([*network, f"auxiliary.genes={json.dumps(genes)}", f"loss={loss}", f"seed={seed}", *words])


def trained(way: str, config: Config, sharing: Sharing, folder: str) -> tuple[float, int]:
    """Seconds of processor time, and epochs over all folds."""
    with patch.object(Trainer, "validate", plain_validation) if way == "plain" else _as_it_is():
        train = partial(train_cell, sharing=sharing) if way == "side by side" else train_cell
        begun = time.process_time()
        runs = train(config.with_(f"output={folder}/{way.replace(' ', '_')}"))
        return time.process_time() - begun, sum(run.result["epochs"] for run in runs)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def measure(data: str, panel: int, losses: list[str], seeds: list[int], *words: str) -> tuple[dict[str, float], int]:
    """Seconds of every way for all cells, and their epochs. A first cell brings in what is imported late."""
    seconds: dict[str, float] = defaultdict(float)
    sharing, epochs = Sharing(), 0
    with tempfile.TemporaryDirectory() as folder:
        first = next(cells(data, panel, losses, seeds, *words, "training.epochs=1", "name=first"))
        trained("alone", first, sharing, folder)
        for config in cells(data, panel, losses, seeds, *words):
            found = {way: trained(way, config, sharing, folder) for way in WAYS}
            assert len({n for _, n in found.values()}) == 1, "the ways must train the same"
            epochs += found["alone"][1]
            for way, (took, _) in found.items():
                seconds[way] += took
    return seconds, epochs


def main() -> None:
    """Print a row for every panel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 losses, one seed, 50 genes")
    parser.add_argument("--data", default="example", help="a folder of sections")
    asked = parser.parse_args()
    losses, seeds = (["mse", "listwise"], [0]) if asked.quick else (["mse", "pearson", "listwise"], [0, 1])
    torch.set_num_threads(1)
    print("| panel | epochs a run | cells a minute: plain | alone | side by side | times plain | times alone |")
    print("|---|---|---|---|---|---|---|")
    rows = [(50,), (50, "training.epochs=1"), (500,), (1500,)]
    for panel, *words in rows[:2] if asked.quick else rows:
        seconds, epochs = measure(asked.data, int(panel), losses, seeds, *map(str, words))
        n = len(losses) * len(seeds)
        rate = {way: 60 * n / seconds[way] for way in WAYS}
        print(
            f"| {panel:,} genes{', start' if words else ''} | {epochs / n / 3:.0f} | {rate['plain']:.1f} | "
            f"{rate['alone']:.1f} | {rate['side by side']:.1f} | {rate['side by side'] / rate['plain']:.1f} | "
            f"{rate['side by side'] / rate['alone']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
