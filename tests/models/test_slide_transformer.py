"""Attention over a slide's spots: against plain loops; and as a run it trains, resumes, predicts and is exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import layer_norm

from agl import registry
from agl.bilevel.settings import InnerSettings
from agl.config import load
from agl.errors import UserError
from agl.models.slide_transformer import AttentionBlock, Embedding, SlideTransformer
from agl.runs.model import model_of
from agl.runs.predict import evaluate_again, open_model
from agl.runs.resolve import complete
from agl.runs.train import prepare, train
from agl.training.auxiliary import AuxiliarySelection

QUICK = [
    "model={name: slide_transformer, width: 16, heads: 2, blocks: 1}", "training.sampler=slides", "primary.k=8",
    "primary.min_detection=0", "training.epochs=3", "training.checkpoint_every=1", "fold=0", "data.features=latent",
    "auxiliary.genes={name: top, k: 5}",
]  # fmt: skip


def test_a_block_is_attention_spot_by_spot() -> None:
    """softmax(q . k / sqrt(d)) v for every spot and head in a loop, then the layers."""
    torch.manual_seed(0)
    block, hidden = AttentionBlock(6, 2, 0.0).double(), torch.randn(5, 6, dtype=torch.float64)
    table = block.ask(layer_norm(hidden, (6,), block.before.weight, block.before.bias)).detach().numpy()
    seen = np.zeros((5, 6))
    for head in range(2):
        query, key, value = (table[:, 6 * part + 3 * head : 6 * part + 3 * head + 3] for part in range(3))
        for spot in range(5):
            weights = np.exp([query[spot] @ key[other] / np.sqrt(3) for other in range(5)])
            seen[spot, 3 * head : 3 * head + 3] = (weights / weights.sum()) @ value
    between = hidden + block.answer(torch.from_numpy(seen))
    expected = between + block.layers(layer_norm(between, (6,), block.behind.weight, block.behind.bias))
    torch.testing.assert_close(block(hidden), expected)


def test_a_place_is_sines_beside_what_is_shown() -> None:
    embedding = Embedding(3, 4).double()
    spots = torch.tensor([[1.0, -2.0, 0.5, 0.3, -1.2]], dtype=torch.float64)
    angles = [place * np.pi / 4 * 2**k for place in (0.3, -1.2) for k in range(5)]
    waves = torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)]))
    expected = embedding.shown(spots[:, :3]) + embedding.place.weight @ waves
    torch.testing.assert_close(embedding(spots), expected)


def test_every_spot_sees_the_others_and_where_they_lie() -> None:
    torch.manual_seed(0)
    model, spots = SlideTransformer(6, 2, width=8, heads=2).eval(), torch.randn(4, 6)
    scores = model(spots)
    for column in (0, 4, 5):  # what another spot shows, its x, its y
        moved = spots.clone()
        moved[3, column] += 1
        assert (model(moved)[:3] - scores[:3]).abs().min() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_features": 2}, "3 columns or more"), ({"width": 10, "heads": 4}, "divide the width 10"),
     ({"blocks": 0}, "blocks from 1"), ({"dropout": 1.0}, "share of a layer")],
)  # fmt: skip
def test_wrong_options_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        SlideTransformer(**{"n_features": 6, "n_genes": 2} | options)


def test_a_run_is_scored_again_exported_and_predicts_as_others(sections: Path, tmp_path: Path) -> None:
    (run,) = train(load([f"data.root={sections}", f"output={tmp_path}", *QUICK]))
    assert run.config.data.places
    assert evaluate_again(run.folder)["as_recorded"]
    saved = np.load(run.folder / "predictions.npz", allow_pickle=False)
    slide = str(saved["slide"][0])
    model_of(run).save(tmp_path / "exported")
    for folder in (run.folder, tmp_path / "exported"):
        model = open_model(folder)[1]
        predicted = model.predict(slide, root=sections, features=["latent"])
        found = predicted[np.asarray(saved["barcode"])[saved["slide"] == slide].tolist()].layers["agl_score"]
        np.testing.assert_allclose(found, saved["scores"][saved["slide"] == slide], rtol=1e-4, atol=1e-5)


def test_an_interrupted_run_ends_with_the_same_bits(sections: Path, tmp_path: Path) -> None:
    words = [f"data.root={sections}", *QUICK]
    (whole,) = train(load([*words, f"output={tmp_path / 'whole'}"]))
    experiment = prepare(load([*words, f"output={tmp_path / 'parts'}"])).experiments[0]
    first, second = experiment.trainer(), experiment.trainer()
    first.settings = first.settings.model_copy(update={"epochs": 1})
    first.fit()
    second.load_state_dict(first.state_dict())
    second.fit()
    state = load_file(whole.folder / "checkpoints/best.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in second.task.model.state_dict().items())


@pytest.mark.parametrize("engine", ["forward", "jvp", "reverse"])
def test_a_selector_is_tuned_through_it(sections: Path, tmp_path: Path, engine: str) -> None:
    """The hypergradient through attention, against differences."""
    words = [f"data.root={sections}", f"output={tmp_path}", *QUICK, "auxiliary.genes=dkgsb", "auxiliary.genes.tau=0.2"]
    trainer = prepare(load([*words, "auxiliary.outer.unit=validation", "model.dropout=0"])).experiments[0].trainer()
    trainer.task.model.double()
    selection = next(plugin for plugin in trainer.plugins if isinstance(plugin, AuxiliarySelection))
    selection.selector.double()
    selection.fit_start(trainer)
    inner = list(trainer.task.loader.batches([trainer.task.train[:40]]))
    (outer,) = trainer.task.loader.batches([trainer.task.validation])
    settings = InnerSettings(inner_optimizer="sgd", inner_lr=0.5)
    found = registry.find("engine", engine)(selection.problem, inner, outer, settings)
    truth = registry.find("engine", "finite_difference")(selection.problem, inner, outer, settings)
    torch.testing.assert_close(found.phi["threshold"], truth.phi["threshold"], rtol=1e-4, atol=1e-10)
    assert truth.phi["threshold"].abs() > 1e-8


def test_batches_of_several_slides_are_refused(sections: Path, tmp_path: Path) -> None:
    words = [f"data.root={sections}", f"output={tmp_path}", *QUICK]
    with pytest.raises(UserError, match=r"received one of \d slides. Set training.sampler=slides."):
        train(load([*words, "training.sampler=grouped"]))
    with pytest.raises(UserError, match=r"Expected data.places=true for the model 'slide_transformer'"):
        complete(load([*words, "data.places=false"]))
    with pytest.raises(UserError, match="received 'slide_transformer', which looks at a slide as a whole"):
        train(load([*words, "model={name: committee, network: {model: slide_transformer}}"]))
