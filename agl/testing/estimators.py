"""Does an estimator fit? For ours, and for yours.

>>> from agl.estimators.convex import Convex
>>> check_estimator(Convex, penalty=1.0)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from agl import registry
from agl.config import Component
from agl.errors import UserError
from agl.estimators.sample import Sample
from agl.seeds import seeded


def example_sample(
    seed: int = 0, *, n_spots: int = 90, n_features: int = 6, n_primary: int = 5, n_auxiliary: int = 4, **given: Any
) -> Sample:
    """Three unsorted slides of three patients; the genes follow two directions of the features, which all seeds share.

    Args:
        given: other attributes of the sample.

    >>> example_sample().counts.shape
    (90, 9)
    """
    n_genes = n_primary + n_auxiliary
    directions = seeded(0, "example sample").normal(size=(n_features, 2)) / np.sqrt(n_features)
    loadings = seeded(0, "example loadings").normal(size=(2, n_genes))
    rng = seeded(seed, "example spots")
    x = rng.normal(size=(n_spots, n_features))
    library_size = rng.integers(2_000, 9_000, n_spots)
    counts = rng.poisson(np.exp(0.6 * x @ directions @ loadings) * 2e-3 * library_size[:, None])
    slides = rng.permutation(np.repeat([0, 1, 2], [n_spots - n_spots // 3 - n_spots // 4, n_spots // 3, n_spots // 4]))
    values = {
        "features": x * np.geomspace(0.1, 10, n_features) + 1,
        "counts": counts,
        "library_size": library_size,
        "slides": slides,
        "patients": slides.copy(),
        "n_primary": n_primary,
        "loss": Component(name="listwise"),
        "weights": np.ones(n_auxiliary, dtype=np.float32),
    }
    return Sample(**(values | given))


def check_estimator(make: Callable[..., Any], *, rounding: float = 1e-5, **options: Any) -> None:
    """Assert the contract of an estimator: `make(**options)`, then `fit`, then `predict` -> scores `[spot, primary]`.

    `fit` takes a `Sample`, or `(features, counts, library_size, slides, *, seed)` with the counts of the primary genes;
    what it gives has `details`, plain values, and `predict(features)`, or `predict(features, *, slides)` where spots of
    one slide must be known. Scores are float64 and finite, also with spots and genes without counts and with one slide
    only. The same sample gives the same scores; the order of its spots does not matter, nor do the slides' numbers; a
    slide's scores depend on no other slide. Inputs stay as they are; what does not fit is refused by a `UserError`.

    Args:
        rounding: largest difference between scores that should be equal, in standard deviations of them.

    Raises:
        AssertionError: with one sentence on what was expected and what came.
    """
    sample, new = example_sample(), example_sample(1, n_spots=60)
    records: list[dict[str, Any]] = []
    fitted = fit(make(**options), replace(sample, report=records.append))
    found = scores(fitted, new)
    _check_scores(found, new)
    _check_plain(fitted, records)
    _check_repeatable(make, options, new, found)
    _check_slides_apart(fitted, new, found, rounding)
    _check_names(make, options, new, found, rounding)
    _check_refusals(make, options, fitted, new)
    _check_gaps(make, options, new)


def fit(estimator: Any, sample: Sample) -> Any:
    """What is fitted, in the form that the estimator has."""
    if registry.takes_sample(estimator):
        return estimator.fit(sample)
    return estimator.fit(sample.features, sample.primary, sample.library_size, sample.slides, seed=sample.seed)


def scores(fitted: Any, sample: Sample) -> np.ndarray:
    """Scores of a sample's spots, slides told where they are asked for."""
    if "slides" in registry.parameters(fitted.predict):
        return fitted.predict(sample.features, slides=sample.slides)
    return fitted.predict(sample.features)


def _check_scores(found: Any, sample: Sample) -> None:
    assert isinstance(found, np.ndarray), f"Expected a NumPy array of scores, received {type(found).__name__}."
    shape = (len(sample), sample.n_primary)
    assert found.shape == shape, f"Expected scores [spot, primary gene] {shape}, received {found.shape}."
    assert found.dtype == np.float64, f"Expected float64 scores, received {found.dtype}."
    assert np.isfinite(found).all(), "Expected finite scores, received NaN or infinity."


def _check_plain(fitted: Any, records: list[dict[str, Any]]) -> None:
    from agl.runs.files import plain

    details = getattr(fitted, "details", None)
    assert isinstance(details, dict), f"Expected .details as a dict, received {type(details).__name__}."
    for what, value in [("details", details)] + [("record", record) for record in records]:
        try:
            json.dumps(plain(value))
        except TypeError as error:
            raise AssertionError(f"Expected numbers and words in the {what}, received {value!r} ({error}).") from None


def _check_repeatable(make: Callable[..., Any], options: dict[str, Any], new: Sample, found: np.ndarray) -> None:
    sample, untouched = example_sample(), example_sample()
    again = scores(fit(make(**options), sample), new)
    assert np.array_equal(again, found), "Expected the same scores from the same sample and seed, received others."
    for field in fields(Sample):
        value = getattr(sample, field.name)
        if isinstance(value, np.ndarray):
            same = np.array_equal(value, getattr(untouched, field.name))
            assert same, f"Expected {field.name} to be left alone, but fitting changed it: work on a copy."


def _check_slides_apart(fitted: Any, new: Sample, found: np.ndarray, rounding: float) -> None:
    for slide in np.unique(new.slides):
        here = np.flatnonzero(new.slides == slide)
        _close(scores(fitted, new.at(here)), found[here], rounding, "a slide's scores to depend on no other slide")


def _check_names(
    make: Callable[..., Any], options: dict[str, Any], new: Sample, found: np.ndarray, rounding: float
) -> None:
    sample = example_sample()
    order = seeded(0, "order").permutation(len(sample))
    permuted = scores(fit(make(**options), sample.at(order)), new)
    _close(permuted, found, rounding, "the order of the training spots not to matter")
    renamed = replace(sample, slides=3 * sample.slides + 1, patients=2 * sample.patients + 5)
    _close(scores(fit(make(**options), renamed), new), found, rounding, "slides' numbers to be mere names")


def _check_refusals(make: Callable[..., Any], options: dict[str, Any], fitted: Any, new: Sample) -> None:
    broken = example_sample()
    broken.features[3, 2] = np.nan
    narrow = replace(new, features=new.features[:, 1:])
    for what, act in (
        ("features of another width than in training", lambda: scores(fitted, narrow)),
        ("training features that are not finite", lambda: fit(make(**options), broken)),
    ):
        try:
            act()
        except UserError:
            continue
        except Exception as error:
            raise AssertionError(f"Expected a UserError for {what}, received {type(error).__name__}: {error}") from None
        raise AssertionError(f"Expected a UserError for {what}, received none.")


def _check_gaps(make: Callable[..., Any], options: dict[str, Any], new: Sample) -> None:
    empty, silent = example_sample(), example_sample()
    empty.counts[:7], empty.library_size[:7] = 0, 0
    silent.counts[:, [1, -1]] = 0
    single = example_sample().at(np.flatnonzero(example_sample().slides == 0))
    for what, sample in (("spots without counts", empty), ("genes without counts", silent), ("one slide only", single)):
        try:
            found = scores(fit(make(**options), sample), new)
        except Exception as error:
            raise AssertionError(
                f"Expected scores also with {what}, received {type(error).__name__}: {error}"
            ) from None
        _check_scores(found, new)


def _close(found: np.ndarray, expected: np.ndarray, rounding: float, what: str) -> None:
    difference = float(np.abs(found - expected).max()) / (float(expected.std()) or 1.0)
    assert difference <= rounding, f"Expected {what}, received scores that differ by {difference:.1e} of their spread."
