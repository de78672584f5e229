"""Arguments of components are of the annotated type, or one sentence says what they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agl import registry
from agl.builtins import WHERE
from agl.config import Component
from agl.errors import UserError
from agl.values import wanted


@pytest.mark.parametrize("kind", WHERE)
def test_every_default_fits_its_annotation(kind: str) -> None:
    for name in registry.names(kind):
        target = registry.find(kind, name)
        for word, value in registry.defaults(kind, name).items():
            assert wanted(target, word, value) is None, (name, word, value)


@pytest.mark.parametrize(
    ("kind", "name", "args", "sentence"),
    [
        ("loss", "listwise", {"count_power": "a"}, "a number for count_power of the loss 'listwise', received 'a'"),
        ("loss", "listwise", {"list_size": 2.5}, "a whole number or null for list_size"),
        ("loss", "pairwise", {"n_partners": True}, "a whole number for n_partners"),
        ("loss", "margin_ranking", {"ties": "foo"}, "skip or released for ties"),
        ("loss", "pearson", {"pooled": "maybe"}, "true or false for pooled"),
        ("model", "mlp", {"hidden": 64}, "a list like [a whole number, a whole number] for hidden"),
        ("model", "mlp", {"hidden": [64, "b"]}, "a list like [a whole number, a whole number] for hidden"),
        ("gene_set", "top", {"k": "x"}, "a whole number or null for k of the gene set 'top'"),
        ("primary", "dispersion", {"k": [3]}, "a whole number for k of the primary"),
        ("sampler", "grouped", {"slides_per_batch": "x"}, "a whole number for slides_per_batch"),
    ],
)
def test_a_wrong_type_is_one_sentence(kind: str, name: str, args: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        registry.complete(kind, Component.model_validate({"name": name, **args}))
    assert f"Expected {sentence}" in str(caught.value)


def test_a_slide_may_be_called_by_a_number_and_one_name_may_stand_for_a_list() -> None:
    assert registry.complete("split", Component.model_validate({"name": "leave_one_slide_out", "patient": 12}))
    assert registry.complete("split", Component.model_validate({"name": "named_slides", "test": "S1"}))


def test_annotations_nobody_can_resolve_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\ndef mine(scores, counts, *, a: Nowhere = 1): return scores.mean(0)\n"
    )
    assert registry.complete("loss", Component.model_validate({"name": f"{tmp_path}/mine.py:mine", "a": "b"}))


@pytest.mark.parametrize(
    ("kind", "name", "args", "part"),
    [
        ("gene_set", "random", {"seed": -1}, "Expected a whole number from 0 to 4294967295 for seed"),
        ("split", "random_spots", {"fold_seed": -1}, "Expected a whole number from 0 to 4294967295 for fold_seed"),
        ("estimator", "hest-raw", {"random_state": 2**32}, "Expected a whole number from 0 to 4294967295 for random_"),
        ("split", "hest_csv", {"folder": 3}, "Expected a path for folder"),
        ("gene_set", "random", {"k": 10**30}, "below 2^63 for k"),
        ("loss", "listwise", {"count_power": float("nan")}, "Expected a number that is finite"),
        ("selector", "prior_mixture", {"priors": 3}, "Expected a list of names for priors, received 3"),
        ("selector", "prior_mixture", {"priors": None}, "Expected a list of names for priors, received None"),
    ],
)
def test_values_that_no_function_could_use(kind: str, name: str, args: dict, part: str) -> None:
    with pytest.raises(UserError) as caught:
        registry.complete(kind, Component.model_validate({"name": name, **args}))
    assert part in str(caught.value)
