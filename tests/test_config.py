"""Precedence, overrides, and what a wrong key is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from agl.config import Config, load
from agl.errors import UserError
from agl.trees import STUDIES, read_yaml


def test_precedence_is_defaults_then_files_then_words(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("training: {epochs: 7, batch_size: 32}\nseed: 4\n")
    second.write_text("training: {epochs: 8}\n")
    config = load(["training.epochs=9", first, second])
    assert (config.training.epochs, config.training.batch_size, config.seed) == (9, 32, 4)
    assert config.training.patience == Config().training.patience
    assert load([first, second]).training.epochs == 8


@pytest.mark.parametrize("text", ["3e-5", "3.0e-5", "0.00003"])
def test_floats_may_be_written_as_people_write_them(text: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"loss: {{name: pearson, eps: {text}}}\n")
    assert load([file]).loss.args["eps"] == pytest.approx(3e-5)
    assert load([f"loss.eps={text}"]).loss.args["eps"] == pytest.approx(3e-5)


def test_naming_a_component_drops_the_old_ones_arguments(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("loss: {name: listwise, count_power: 0.5}\n")
    other = tmp_path / "d.yaml"
    other.write_text("loss: {name: mse}\n")
    assert load([file, "loss=mse"]).loss.args == {}
    assert load([file, other]).loss.args == {}
    assert load([file, "loss.list_size=8"]).loss.args == {"count_power": 0.5, "list_size": 8}


def test_arguments_without_a_name_are_the_default_components(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("primary: {k: 30}\nauxiliary: {outer: {engine: {eps: 1.0}}}\n")
    config = load([file, "loss.count_power=0"])
    assert (config.primary.name, config.primary.args) == (Config().primary.name, {"k": 30})
    assert config.auxiliary.outer.engine.name == "auto"
    assert (config.loss.name, config.loss.args) == ("listwise", {"count_power": 0})


def test_a_resolved_config_reads_back_as_itself(tmp_path: Path) -> None:
    import yaml

    config = load(["loss.count_power=0.5", "plugins=[{name: 'a.py:b', c: 1}]", "data.sections=[x, y]"])
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    assert load([file]) == config


def test_overriding_a_finished_config_leaves_the_original() -> None:
    config = Config()
    assert config.with_("seed=3").seed == 3
    assert config.seed == 0


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        (["trainng.epochs=3"], "Unknown key 'trainng' in the config. Did you mean 'training'?"),
        (["training.epoch=3"], "Unknown key 'training.epoch' in the config. Did you mean 'training.epochs'?"),
        (
            ["auxiliary.outer.step=3"],
            "Unknown key 'auxiliary.outer.step' in the config. Did you mean 'auxiliary.outer.steps'?",
        ),
        (["training.epochs=many"], "received 'many'."),
        (["training.epochs=0"], "greater than or equal to 1, received 0."),
        (["fold=-1"], "greater than or equal to 0, received -1."),
        (["training.precision=fp8"], "received 'fp8'."),
        (["seed.x=3"], "received {'x': 3}."),
        (["seed=1", "seed.x=3"], "'seed.x=3' cannot go inside it."),
        (["nothing.yaml"], "received 'nothing.yaml': there is no such file."),
        (["training.learning_rate=inf"], "input should be a finite number, received 'inf'."),
        (["data.sections=P1"], "Expected a list such as [a, b] at the config key 'data.sections', received 'P1'."),
        (
            ["training=3"],
            "Expected a name, or keys and values such as {key: value} at the config key 'training', received 3.",
        ),
        (["loss=[1,"], "Quote text with special characters."),
    ],
)
def test_mistakes_get_one_sentence(words: list[str], ending: str) -> None:
    with pytest.raises(UserError) as caught:
        load(words)
    assert str(caught.value).endswith(ending), str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- a\n- b\n", "found list"),
        ("a: [1\n", "not readable as YAML: line 2, column 1: "),
        ("", None),
        ("loss: mse\nseed: 1\nloss: listwise\n", "line 3, column 1: the key 'loss' comes twice. Keep one."),
        ("training: {epochs: 1, epochs: 2}\n", "the key 'epochs' comes twice"),
    ],
)
def test_odd_files(text: str, part: str | None, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    if part is None:
        assert load([file]) == Config()
        return
    with pytest.raises(UserError, match=part):
        load([file])


def test_the_shipped_configs_are_valid_and_sparse() -> None:
    root = Path(__file__).parents[1]
    for file in sorted(root.glob("configs/*.yaml")):
        tree = read_yaml(file)
        if not STUDIES.keys() & tree.keys():
            assert load([file]).name == file.stem


def test_a_study_is_told_its_command(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("axes: {seed: [0, 1]}\n")
    with pytest.raises(UserError, match=r"Use `agl grid .*study\.yaml`"):
        load([file])


def test_the_shipped_studies_have_valid_cells() -> None:
    from agl.studies.grid import read_grid

    files = sorted(Path(__file__).parents[1].glob("experiments/*/*.yaml"))
    assert files
    for file in files:
        if "axes" in read_yaml(file):
            grid = read_grid(file)
            assert all(grid.config(cell) for cell in grid.cells())
