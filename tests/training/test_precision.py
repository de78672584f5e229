"""Mixed precision is for training alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from agl.config import Training
from agl.models.predictor import resnet18
from agl.training.plugins import History


def test_the_hypergradient_is_in_full_precision_whatever_surrounds_it(trainer_on, selection) -> None:
    trainer = trainer_on(plugins=[selection])
    selection.fit_start(trainer)
    trainer.task.model.train()
    plain = selection._look_ahead(trainer, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        surrounded = selection._look_ahead(trainer, 0)
    assert torch.equal(plain.phi["threshold"], surrounded.phi["threshold"])
    assert plain.outer_after == surrounded.outer_after


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="mixed precision acts on a GPU only, and there is none")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_leaves_the_engine_alone(
    trainer_on, selection, tmp_path: Path, precision: str
) -> None:
    settings = Training(epochs=12, batch_size=20, augment="dihedral", workers=2, precision=precision)
    history = History(tmp_path / "h.jsonl")
    trainer = trainer_on(settings, [selection, history], resnet18(13), device="cuda")
    trainer.fit()
    losses = [json.loads(line)["primary_loss"] for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.1
    assert all(parameter.dtype is torch.float32 for parameter in trainer.task.model.parameters())
    trainer.task.model.train()
    found = selection._look_ahead(trainer, 0)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        surrounded = selection._look_ahead(trainer, 0)
    assert found.phi["threshold"].dtype is torch.float32
    assert torch.allclose(found.phi["threshold"], surrounded.phi["threshold"], rtol=1e-3)
