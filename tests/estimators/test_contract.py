"""Every built-in estimator against the contract, estimators that break it in one way each, and one from outside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from agl import registry
from agl.errors import UserError
from agl.estimators.baselines import Ridge
from agl.testing import check_estimator
from agl.testing.estimators import example_sample, fit, scores

OPTIONS = {
    "hest-pca256": {"components": "largest", "rounding": 0.02},  # LSQR stops early, see its docstring
    "hest-raw": {"rounding": 0.02},
    "hest-forest": {"components": "largest", "trees": 5},
    "hest-boosting": {"components": None, "trees": 5},
    "low_rank": {"ranks": (1, 2, 4), "penalties": (1.0, 0.1)},
}


@pytest.mark.parametrize("name", registry.names("estimator"))
def test_built_in(name) -> None:
    check_estimator(registry.find("estimator", name), **OPTIONS.get(name, {}))


class Line:
    """Least squares of log counts, in the plainer form."""

    def fit(self, features, counts, library_size, slides, *, seed=0):
        if not np.isfinite(features).all():
            raise UserError("Expected finite features.")
        self.weights = np.linalg.lstsq(features, np.log1p(counts), rcond=None)[0]
        self.details = {"spots": len(features)}
        return self

    def predict(self, features):
        if features.shape[1] != len(self.weights):
            raise UserError("Expected as many features as in training.")
        return features @ self.weights


class Whole(Line):
    """The other form."""

    def fit(self, sample):
        return super().fit(sample.features, sample.primary, sample.library_size, sample.slides, seed=sample.seed)


@pytest.mark.parametrize("make", [Line, Whole])
def test_both_forms_will_do(make) -> None:
    check_estimator(make)


class Rounded(Line):
    def predict(self, features):
        return super().predict(features).astype(np.float32)


class OneGene(Line):
    def predict(self, features):
        return super().predict(features)[:, :1]


class Infinite(Line):
    def predict(self, features):
        return super().predict(features) / np.zeros(1)


class Undetailed(Line):
    def fit(self, *arguments, seed=0):
        super().fit(*arguments, seed=seed)
        self.details = {"weights": self.weights}
        return self


class Careless(Line):
    def fit(self, features, counts, library_size, slides, *, seed=0):
        counts += 1
        return super().fit(features, counts, library_size, slides, seed=seed)


class Random(Line):
    def predict(self, features):
        return super().predict(features) + torch.rand(1).item()


class FirstSpots(Line):
    def fit(self, features, counts, library_size, slides, *, seed=0):
        return super().fit(features, counts * (np.arange(len(counts)) < 50)[:, None], library_size, slides, seed=seed)


class Numbered(Line):
    def fit(self, features, counts, library_size, slides, *, seed=0):
        return super().fit(features, counts * (1 + slides[:, None]), library_size, slides, seed=seed)


class Centred(Line):
    def predict(self, features):
        found = super().predict(features)
        return found - found.mean(0)


class Trusting(Line):
    def predict(self, features):
        return features @ self.weights


class Unlogged(Line):
    def fit(self, features, counts, library_size, slides, *, seed=0):
        return super().fit(features, counts / library_size[:, None], library_size, slides, seed=seed)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Rounded, "float64 scores, received float32"),
        (OneGene, r"\(60, 5\), received \(60, 1\)"),
        (Infinite, "Expected finite scores"),
        (Undetailed, "numbers and words in the details"),
        (Careless, "Expected counts to be left alone|the same scores from the same sample"),
        (Random, "the same scores from the same sample"),
        (FirstSpots, "order of the training spots not to matter"),
        (Numbered, "slides' numbers to be mere names"),
        (Centred, "depend on no other slide"),
        (Trusting, "Expected a UserError for features of another width"),
        (Unlogged, "with spots without counts|Expected finite scores"),
    ],
)
def test_what_breaks_the_contract_is_told(make, told) -> None:
    with pytest.raises(AssertionError, match=told):
        check_estimator(make)


PLAIN = """
import numpy as np
from agl.estimators.baselines import Ridge

class Mine:
    def __init__(self, *, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(self, features, counts, library_size, slides, *, seed):
        return Ridge(alpha=self.alpha).fit(features, counts, library_size, slides, seed=seed)
"""
WHOLE = """
import numpy as np
from agl.estimators.sample import Sample

class Fitted:
    def __init__(self, sample: Sample) -> None:
        self.details = {"patients": len(np.unique(sample.patients)), "genes": sample.counts.shape[1]}
        self.weights = np.linalg.lstsq(sample.features, np.log1p(sample.primary), rcond=None)[0]

    def predict(self, features, slides):
        return features @ self.weights + np.asarray(slides)[:, None]

class Mine:
    def fit(self, sample):
        sample.report({"loss": 0.5})
        return Fitted(sample)
"""
WORDS = ["primary.k=10", "primary.min_detection=0", "data.features=latent", "fold=0", "model=mine.py:Mine"]


def test_one_from_a_file_is_as_good_as_a_built_in(agl, sections: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLAIN)
    words = [f"data.root={sections}", *WORDS[:4]]
    status, _, err = agl("train", *words, "model=mine.py:Mine", "model.alpha=0.5")
    assert status == 0, err
    assert agl("train", *words, "model=ridge", "model.alpha=0.5", "name=ours")[0] == 0
    mine, ours = (np.load(next(tmp_path.glob(f"runs/{name}/*/predictions.npz")))["scores"] for name in ("run", "ours"))
    np.testing.assert_array_equal(mine, ours)
    check_estimator(registry.find("estimator", str(tmp_path / "mine.py") + ":Mine"), alpha=0.5)


def test_one_from_a_file_may_take_the_whole_sample(agl, sections: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WHOLE)
    genes = ["auxiliary.genes=top", "auxiliary.genes.k=15"]
    status, _, err = agl("train", f"data.root={sections}", *WORDS, *genes)
    assert status == 0, err
    [folder] = tmp_path.glob("runs/run/*")
    result = json.loads((folder / "result.json").read_text())
    assert (result["patients"], result["genes"]) == (2, 25)
    assert json.loads((folder / "history.jsonl").read_text()) == {"epoch": 1, "loss": 0.5}


def test_one_from_a_file_with_a_wrong_option(agl, sections: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLAIN)
    status, _, err = agl("train", f"data.root={sections}", *WORDS, "model.alfa=0.5")
    assert status == 2
    assert "Did you mean 'alpha'?" in err


def test_the_helpers_of_the_battery_fit_and_score() -> None:
    sample = example_sample()
    fitted = Ridge().fit(sample.features, sample.primary, sample.library_size, sample.slides)
    np.testing.assert_array_equal(scores(fit(Ridge(), sample), sample), fitted.predict(sample.features))
