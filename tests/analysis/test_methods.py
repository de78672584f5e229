"""What methods are called, and whom they are compared with."""

from __future__ import annotations

import pandas as pd
import pytest

from agl.analysis.methods import find_method, matched_reference, named, reference, usual_baseline
from agl.errors import UserError

COLUMNS = ["study", "data", "split", "primary", "features", "model", "loss", "auxiliary", "control", "settings"]


def block(*rows: tuple[str, str, str], control: str = "") -> pd.DataFrame:
    table = pd.DataFrame([("s", "d", "p", "hvg", "uni", *row, control, "") for row in rows], columns=COLUMNS)
    return named(table)


GRID = [("mlp", loss, genes) for loss in ("mse", "listwise") for genes in ("none", "all", "top(k=5, by=mean)")]
TABLE = block(("ridge", "-", "-"), *GRID)


def test_names_are_short_and_say_what_differs() -> None:
    assert list(TABLE.method[:3]) == ["ridge", "mse", "mse + all"]
    two = block(("mlp", "mse", "none"), ("linear", "mse", "none"), ("ridge", "-", "-"))
    assert list(two.method) == ["mlp: mse", "linear: mse", "ridge"]


def test_settings_controls_and_studies_keep_names_apart() -> None:
    rows = [
        ("a", "d", "p", "hvg", "uni", "mlp", "mse", "none", "", "training.learning_rate=0.1"),
        ("a", "d", "p", "hvg", "uni", "mlp", "mse", "none", "permuted", ""),
        ("b", "d", "p", "hvg", "uni", "mlp", "mse", "none", "permuted", ""),
    ]
    found = named(pd.DataFrame(rows, columns=COLUMNS))
    assert list(found.method) == ["mse [learning_rate=0.1] · a", "mse (permuted) · a", "mse (permuted) · b"]


def test_one_baseline_for_all() -> None:
    found = reference(TABLE, "loss=mse, auxiliary=none")
    assert found is not None
    assert set(found.of.values()) == {"mse"}
    assert set(found.of) == set(TABLE.method) - {"mse"}
    assert reference(TABLE, "mse + all").words == "mse + all"
    assert reference(TABLE, "auxiliary=top(k=5, by=mean), loss=mse").words == "mse + top(k=5, by=mean)"
    assert reference(TABLE, "loss=mse, auxiliary=top").words == "mse + top(k=5, by=mean)"
    assert reference(TABLE, "model=ridge").words == "ridge"


def test_a_baseline_for_each() -> None:
    found = reference(TABLE, "auxiliary=none")
    assert found.of == {
        "mse + all": "mse", "mse + top(k=5, by=mean)": "mse",
        "listwise + all": "listwise", "listwise + top(k=5, by=mean)": "listwise",
    }  # fmt: skip
    assert matched_reference(TABLE).of == found.of
    assert matched_reference(block(("mlp", "mse", "none"), ("mlp", "listwise", "none"))) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss=mze", r"loss=mze, found none\. Did you mean 'mse'\?"),
        ("listwisse", r"received 'listwisse'\. Did you mean 'listwise'\?"),
        ("los=mse", r"received 'los'\. Did you mean 'loss'\?"),
        ("model=ridge, loss=mse", r"with model=ridge, loss=mse, found none\. The methods are "),
    ],
)
def test_a_baseline_that_does_not_exist(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        reference(TABLE, text)


def test_an_ambiguous_method_is_refused() -> None:
    with pytest.raises(UserError, match=r"which fits mse, mse \+ all, mse \+ top"):
        find_method(TABLE, "loss=mse")
    assert find_method(TABLE, "loss=mse, auxiliary=all") == "mse + all"


def test_the_usual_baseline_is_the_loss_most_genes_were_tried_with() -> None:
    table = block(("ridge", "-", "-"), ("mlp", "mse", "none"), ("mlp", "listwise", "none"), ("mlp", "listwise", "all"))
    assert usual_baseline(table) == "listwise"
    assert reference(block(("mlp", "mse", "none")), None) is None


def test_controls_are_not_tested() -> None:
    both = named(pd.concat([TABLE, block(("mlp", "mse", "none"), control="permuted")], ignore_index=True)[COLUMNS])
    assert "mse (permuted)" not in reference(both, "mse").of
