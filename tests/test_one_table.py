"""A prior, an objective, an augmentation: named, of one's own, or misspelt, they are components like all others."""

from __future__ import annotations

from pathlib import Path

import pytest

from agl.builtins import GIVEN, WHERE
from agl.config import Config, load
from agl.runs.resolve import complete, components

QUICK = ["training.epochs=1", "primary.k=10", "primary.min_detection=0", "data.features=latent", "fold=0", "model=mlp"]

OWN = """
import numpy as np

def length(training, *, primary=None, by=1.0):
    return by * np.array([len(gene) for gene in training.genes], dtype=float) + np.arange(training.n_genes) / 1e3

def half(primary, auxiliary, weights, *, strength=1.0, share=0.5):
    return primary.mean() + share * strength * (weights * auxiliary).sum() / weights.detach().sum().clamp(min=1)

def mirrored(batch, rng, held=slice(None), *, axis=1):
    return batch._replace(inputs=batch.inputs.flip(axis))
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    return file


def test_every_kind_says_what_it_is_given() -> None:
    assert GIVEN.keys() == WHERE.keys()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["auxiliary.genes.priro=mean"], "takes no argument 'priro'. Did you mean 'prior'?"),
        (["auxiliary.genes.prior=dispersoin"], "Unknown prior 'dispersoin'. Did you mean 'dispersion'?"),
        (["auxiliary.genes.prior=mine.py:nope"], "Known: half, length, mirrored."),
        (["auxiliary.genes.prior=mean", "auxiliary.genes.prior.normalize=cp10k"], "Did you mean 'normalise'?"),
        (["auxiliary.genes.prior=file"], "needs path=..., received none."),
        (["auxiliary.genes.prior=[mean]"], "Expected a name, or a name and its arguments"),
        (["auxiliary.objective=balnced"], "Unknown objective 'balnced'. Did you mean 'balanced'?"),
        (["auxiliary.objective.strenth=1"], "'balanced' takes no argument 'strenth'. It takes none."),
        (["training.augment=dihedal"], "Unknown augment 'dihedal'. Did you mean 'dihedral'?"),
        (["auxiliary.outer.engine=forwrd", "auxiliary.genes=dkgsb"], "Unknown engine 'forwrd'."),
    ],
)  # fmt: skip
def test_a_misspelt_one_fails_before_anything_is_trained(agl, own, sections: Path, words: list[str], part: str) -> None:
    status, _, err = agl("show", f"data.root={sections}", *QUICK, "auxiliary.genes=top", *words)
    assert status == 2
    assert part in err
    assert len(err.strip().splitlines()) == 1


def test_ones_own_are_trained_with(agl, own: Path, sections: Path) -> None:
    words = ["auxiliary.genes=top", "auxiliary.genes.k=5", "auxiliary.genes.prior=mine.py:length"]
    words += ["auxiliary.genes.prior.by=2.0", "auxiliary.objective=mine.py:half", "auxiliary.objective.share=0.1"]
    words += ["training.augment=mine.py:mirrored"]
    status, _, err = agl("train", f"data.root={sections}", *QUICK, *words)
    assert status == 0, err


def test_their_files_are_part_of_the_run(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    config = load(["auxiliary.genes=top", "auxiliary.genes.prior=mine.py:length", "auxiliary.objective=mine.py:half"])
    found = components(complete(config))
    assert {"mine.py:length", "mine.py:half"} <= {component.name for component in found}
    prior = complete(config).auxiliary.genes.args["prior"]
    assert prior == {"name": "mine.py:length", "by": 1.0}


def test_every_slot_of_the_config_is_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from agl.training.plugins import Plugin\n\nclass Watch(Plugin): ...\n")
    config = Config().with_("model=mlp", "auxiliary.genes=dkgsb", "plugins=[mine.py:Watch]")
    names = [component.name for component in components(complete(config))]
    assert {"leave_one_patient_out", "dispersion", "mlp", "listwise", "dkgsb", "auto", "balanced", "grouped"} <= set(
        names
    )
    assert names.count("dispersion") == 2  # the primary rule, and the prior of the selector
