"""HParams: one run stays one run, and TensorBoard reads back what was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from agl.config import Config
from agl.runs.hparams import hparam_values, write_hparams


def test_tensorboard_reads_settings_and_metrics_of_one_run(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from torch.utils.tensorboard import SummaryWriter

    folder = tmp_path / "tb"
    with SummaryWriter(str(folder)) as writer:
        writer.add_scalar("scc", 0.25, 1)  # of validation spots
    config = Config().with_("loss=mse", "training.learning_rate=3e-5", "model=mlp", "model.hidden=[16, 8]")
    write_hparams(folder, config, {"scc": 0.5, "pairs": 100, "best": None, "optimistic": True, "bad": float("nan")})
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    assert list(runs.Runs()) == ["tb"]
    assert [path for path in folder.rglob("*") if path.is_dir()] == []
    scalars = {tag: runs.Scalars("tb", tag)[-1].value for tag in runs.GetAccumulator("tb").Tags()["scalars"]}
    assert scalars == {"scc": 0.25, "test/scc": 0.5, "test/pairs": 100}
    written = runs.SummaryMetadata("tb", "_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(written).session_start_info.hparams
    assert values["loss.name"].string_value == "mse"
    assert values["training.learning_rate"].number_value == pytest.approx(3e-5)
    assert values["model.hidden"].string_value == "16, 8"
    assert values["data.permute"].bool_value is False
    assert not {"output", "name"} & set(values)


def test_what_cannot_be_shown_is_left_out() -> None:
    values = hparam_values(Config())
    assert "fold" not in values  # None
    assert all(isinstance(value, (bool, int, float, str)) for value in values.values())


def test_what_studies_vary_stands_first() -> None:
    names = list(hparam_values(Config().with_("fold=1")))
    assert names[:4] == ["loss.name", "model.name", "auxiliary.genes.name", "primary.name"]
    assert names.index("seed") < 8 < names.index("training.epochs")
