"""Choosing inside the training spots: what is left out, how it is scored, and which option is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from agl.estimators import convex
from agl.estimators.convex import Convex
from agl.estimators.inside import folds_inside, score_by_slide, simplest_of_the_best
from agl.estimators.sample import Sample
from agl.testing.estimators import example_sample


def with_codes(slides: list[int], patients: list[int]) -> Sample:
    """Three spots for each slide named, of the patient named beside it."""
    sample = example_sample().at(np.arange(3 * len(slides)))
    return replace(sample, slides=np.repeat(slides, 3), patients=np.repeat(patients, 3))


def test_whole_patients_from_three_on() -> None:
    inside = folds_inside(with_codes([3, 8, 1, 9, 4], [7, 7, 2, 2, 5]))
    assert inside.words == "3 folds of patients"
    assert inside.fold.tolist() == np.repeat([1, 1, 0, 0, 2], 3).tolist()  # the largest first, among equals by name


def test_whole_slides_below_three_patients() -> None:
    inside = folds_inside(with_codes([3, 8, 1, 9], [7, 7, 2, 2]))
    assert inside.words == "4 folds of slides"
    assert inside.fold.tolist() == np.repeat([1, 2, 0, 3], 3).tolist()


def test_spots_of_a_single_slide() -> None:
    one = with_codes([3] * 7, [1] * 7)
    inside = folds_inside(one)
    assert inside.words == "5 folds of spots"
    assert sorted(np.bincount(inside.fold)) == [4, 4, 4, 4, 5]
    assert not np.array_equal(inside.fold, folds_inside(replace(one, seed=1)).fold)
    assert len(folds_inside(with_codes([3], [1]))) == 1  # three spots: a correlation needs as many


def test_at_most_five_folds_each_unit_in_one_and_all_spots_left_out_once() -> None:
    sample = with_codes(list(range(8)), [0, 0, 0, 1, 2, 3, 4, 5])
    inside = folds_inside(sample)
    left = [held for _, held in inside]
    assert len(left) == 5
    assert sorted(np.concatenate(left)) == list(range(24))
    for kept, held in inside:
        assert not set(sample.patients[kept]) & set(sample.patients[held])
        assert len(kept) + len(held) == 24
    assert np.bincount(inside.fold).tolist() == [9, 6, 3, 3, 3]


@pytest.mark.parametrize(("score", "measure"), [("scc", stats.spearmanr), ("pcc", stats.pearsonr)])
def test_the_score_is_scipys(score: str, measure) -> None:
    sample = example_sample(score=score)
    sample.counts[sample.slides == 1, 2] = 0  # undefined there
    sample.library_size[:4] = 0  # spots without counts take no part
    options = np.random.default_rng(0).normal(size=(2, 90, 5))
    options[1, :, 3] = 1.0  # says nothing: counts 0
    found = score_by_slide(torch.from_numpy(options), sample)
    used = sample.library_size > 0
    for option in range(2):
        for slide in range(3):
            here = used & (sample.slides == slide)
            truth = np.log1p(1e4 * sample.counts[here] / sample.library_size[here, None])
            genes = [gene for gene in range(5) if truth[:, gene].std() > 0]
            assert len(genes) == (4 if slide == 1 else 5)
            values = [
                0.0 if (option, gene) == (1, 3) else measure(options[option, here, gene], truth[:, gene])[0]
                for gene in genes
            ]
            assert found[option, slide] == pytest.approx(np.mean(values), abs=1e-6)


def test_one_standard_error_by_hand() -> None:
    """Behind the best (option 2): .03 .01 .02, mean .02, sd .01, error .01 / sqrt(3) = .0058; and .01 0 .005."""
    scores = np.array([[0.07, 0.19, 0.18], [0.09, 0.20, 0.195], [0.10, 0.20, 0.20]])
    assert scores.mean(1).argmax() == 2
    assert simplest_of_the_best(scores) == 2  # option 1: mean .005, sd .005, error .0029
    wider = scores.copy()
    wider[1] = [0.09, 0.20, 0.209]  # behind by .01, 0, -.009: mean .0003, sd .0095, error .0055
    assert simplest_of_the_best(wider) == 1
    assert simplest_of_the_best(wider, order=[2, 1, 0]) == 2
    wider[0] = [0.04, 0.25, 0.20]  # behind by .06, -.05, 0: mean .0033, sd .055, error .032
    assert simplest_of_the_best(wider) == 0


def test_one_unit_has_no_error_and_undefined_units_no_say() -> None:
    assert simplest_of_the_best(np.array([[0.1], [0.11], [0.11]])) == 1
    assert simplest_of_the_best(np.array([[0.1, np.nan], [0.2, 0.1], [0.2, 0.9]])) == 1
    assert simplest_of_the_best(np.full((3, 2), np.nan)) == 0


def test_heads_of_a_fold_know_nothing_of_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[torch.Tensor] = []
    original = convex.solve_path

    def spy(*arguments, **options):
        heads = original(*arguments, **options)
        solved.append(heads.coefficients)
        return heads

    monkeypatch.setattr(convex, "solve_path", spy)
    clean = example_sample()
    inside = folds_inside(clean)
    counts, library = clean.counts.copy(), clean.library_size.copy()
    held = inside.fold == 0
    counts[held], library[held] = np.random.default_rng(0).integers(0, 99, (held.sum(), counts.shape[1])), 1000
    for sample in (clean, replace(clean, counts=counts, library_size=library)):
        Convex(penalties=[1.0, 0.1]).fit(sample)
    assert len(solved) == 2 * (len(inside) + 1)  # every fold, then all spots
    a, b = solved[: len(inside) + 1], solved[len(inside) + 1 :]
    assert torch.equal(a[0], b[0])
    assert not any(torch.equal(x, y) for x, y in zip(a[1:3], b[1:3], strict=True))
