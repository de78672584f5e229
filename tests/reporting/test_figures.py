"""What a figure shows where the numbers have gaps or span decades."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agl.analysis.selection import Selection
from agl.reporting.figures import selection as figures
from agl.reporting.figures.genes import correlation_words
from agl.reporting.style import MethodStyle, log_axis, new_figure


def test_a_number_recorded_in_every_other_epoch_is_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    epochs = np.arange(1, 9)
    history = pd.DataFrame({"run": 0, "fold": 0, "seed": 0, "epoch": epochs, "k": 10 - epochs})
    history["hypergradient"] = np.where(epochs % 2 == 0, epochs / 100, np.nan)
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, *rest: drawn.append(figure))
    empty = pd.DataFrame()
    figures.draw_trajectory(Selection("m", empty, history, empty, empty), "b", MethodStyle("#000000", "o"), tmp_path)
    lines = {axes.get_title(loc="left"): axes.lines[0].get_xydata() for axes in drawn[0].axes}
    assert lines["hypergradient"].tolist() == [[2, 0.02], [4, 0.04], [6, 0.06], [8, 0.08]]
    assert len(lines["k"]) == 8


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(2, 30, ["2", "5", "10", "20"]), (0.02, 9, ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5"]),
     (0.01, 2000, ["0.01", "0.1", "1", "10", "100", "1000"])],
)  # fmt: skip
def test_a_logarithmic_axis_has_few_plain_labels(low: float, high: float, labels: list[str]) -> None:
    figure = new_figure(3, 2)
    axes = figure.add_subplot()
    axes.plot([low, high], [0, 1])
    log_axis(axes)
    axes.set_xlim(low, high)
    figure.draw_without_rendering()
    shown = [tick.label1.get_text() for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert shown == labels
    assert not axes.xaxis.get_minorticklocs().size


def test_a_negative_correlation_has_a_minus_sign() -> None:
    assert correlation_words(pd.Series([1.0, 2, 3]), pd.Series([3.0, 2, 1])) == "ρ = −1.00 (3 genes)"
