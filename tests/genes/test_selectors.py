"""Every selector through the battery; then what is special about each."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from agl.errors import UserError
from agl.genes import sets
from agl.genes.candidates import Candidates
from agl.genes.selectors import (
    FAMO,
    AMALScalars,
    DkGSB,
    FixedStrength,
    GradientSimilarity,
    InfluenceGates,
    PriorMixture,
    Selector,
    UncertaintyWeights,
)
from agl.testing.gene_sets import example_candidates
from agl.testing.selectors import check_selector, learn

BUILT_IN = [
    (DkGSB, {}),
    (DkGSB, {"prior": "coexpression", "threshold": 0.3, "tau": 0.1, "final_tau": 0.001}),
    (PriorMixture, {}),
    (PriorMixture, {"priors": ["mean"], "fraction": 0.5, "tau": 0.5}),
    (PriorMixture, {"priors": ["mean", "moran"], "shares": [3.0, 1.0]}),
    (InfluenceGates, {}),
    (InfluenceGates, {"k": 7, "memory": 5.0}),
    (GradientSimilarity, {}),
    (GradientSimilarity, {"k": 3, "gate": 0.0, "start": 0.0}),
    (AMALScalars, {}),
    (AMALScalars, {"weight": 0.9, "temperature": 0.2}),
    (FixedStrength, {"weight": 0.7}),
    (UncertaintyWeights, {}),
    (FAMO, {}),
]


@pytest.mark.parametrize(("make", "options"), BUILT_IN)
def test_every_selector_keeps_the_contract(make, options):
    check_selector(make, **options)


@pytest.fixture
def gapped(spots) -> Candidates:
    """Candidates among which two have no counts, so no dispersion."""
    candidates = Candidates(spots, np.array([0, 1, 2]), np.arange(3, 80))
    assert np.isnan(candidates.prior("dispersion")).sum() >= 1
    return candidates


class TestDkGSB:
    def test_weights_are_the_papers_formula(self):
        candidates = example_candidates()
        selector = DkGSB(candidates, prior="mean", threshold=0.3, tau=0.05)
        order = np.argsort(-candidates.prior("mean"), kind="stable")
        n = len(candidates)
        rank = np.empty(n)
        rank[order] = np.arange(n) / (n - 1)
        rank[-2:] = (n - 1.5) / (n - 1)  # the two genes without counts share the last ranks
        expected = np.exp(0.3 / 0.05) / (np.exp(rank / 0.05) + np.exp(0.3 / 0.05))
        np.testing.assert_allclose(selector().detach().numpy(), expected, rtol=1e-4)

    def test_undefined_genes_rank_last(self, gapped):
        selector = DkGSB(gapped, prior="dispersion")
        undefined = torch.from_numpy(np.isnan(gapped.prior("dispersion")))
        assert selector.rank[undefined].min() > selector.rank[~undefined].max()

    def test_k_moves_with_the_threshold_and_agrees_with_the_weights(self):
        selector = DkGSB(example_candidates(n_aux=30), prior="mean")
        for threshold, k in ((0.0, 1), (10 / 29, 11), (1.0, 30)):
            with torch.no_grad():
                selector.threshold.fill_(threshold)
            assert selector.k == k

    def test_project_keeps_the_threshold_in_range(self):
        selector = DkGSB(example_candidates())
        for outside, inside in ((1.7, 1.0), (-0.2, 0.0), (0.4, 0.4)):
            with torch.no_grad():
                selector.threshold.fill_(outside)
            selector.project()
            assert selector.threshold.item() == pytest.approx(inside)

    def test_annealing_is_geometric_and_resumes(self):
        selector = DkGSB(example_candidates(), tau=0.1, final_tau=0.001)
        taus = []
        for epoch in range(5):
            selector.on_epoch(epoch, 5)
            taus.append(selector.tau.item())
        np.testing.assert_allclose(taus, np.geomspace(0.1, 0.001, 5), rtol=1e-5)
        fresh = DkGSB(example_candidates(), tau=0.1, final_tau=0.001)
        fresh.load_state_dict(copy.deepcopy(selector.state_dict()))
        assert torch.equal(fresh(), selector())

    def test_an_undefined_prior_is_refused(self, gapped):
        none = Candidates(gapped.training, gapped.primary, np.flatnonzero(gapped.training.detection == 0))
        with pytest.raises(UserError, match=r"prior 'dispersion' to be defined.*NaN for all; choose another"):
            DkGSB(none)
        with pytest.raises(UserError, match="prior 'moran'"):
            PriorMixture(none, priors=["mean", "moran"])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"threshold": 1.5}, "threshold from 0 to 1, received 1.5"),
            ({"tau": 0.0}, "tau above 0, received 0"),
            ({"tau": 0.01, "final_tau": 0.1}, "final_tau of at most tau=0.01"),
            ({"prior": "hvg"}, "Unknown prior 'hvg'"),
        ],
    )
    def test_wrong_options_are_refused(self, options, message):
        with pytest.raises(UserError, match=message):
            DkGSB(example_candidates(), **options)


class TestPriorMixture:
    def test_the_budget_is_kept_and_the_best_of_the_mixture_chosen(self):
        candidates = example_candidates()
        selector = PriorMixture(candidates, priors=["mean", "moran"], fraction=0.25, tau=0.01, shares=[3.0, 1.0])
        assert selector().sum().item() == pytest.approx(0.25 * len(candidates), rel=1e-4)
        assert selector.mixture() == pytest.approx({"mean": 0.75, "moran": 0.25})
        mixed = selector.scores.numpy() @ np.array([0.75, 0.25])
        assert set(np.flatnonzero(selector.chosen())) == set(np.argsort(-mixed)[:8])

    def test_one_prior_orders_the_genes_as_dkgsb(self, gapped):
        mixture = PriorMixture(gapped, priors="dispersion", fraction=0.5, tau=1.0)().detach().numpy()
        single = DkGSB(gapped, prior="dispersion", tau=1.0)().detach().numpy()
        assert np.corrcoef(np.argsort(np.argsort(mixture)), np.argsort(np.argsort(single)))[0, 1] > 0.99

    def test_it_starts_where_the_coexpressed_genes_are(self, planted):
        data = planted(0)
        selector = PriorMixture(data.candidates)
        significant = sets.coexpressed(data.candidates).sum()
        assert selector().sum().item() == pytest.approx(significant, rel=1e-3)
        assert selector.mixture() == pytest.approx(
            {"coexpression": 0.5, "dispersion": 1 / 6, "mean": 1 / 6, "moran": 1 / 6}
        )
        nothing = PriorMixture(planted(1, kinds=(0, 40, 0)).candidates)
        assert 1 <= nothing().sum().item() < 5  # at least one gene, or there is nothing to learn from

    def test_the_scale_of_a_prior_does_not_matter(self, monkeypatch):
        from agl.builtins import WHERE
        from agl.genes import priors

        monkeypatch.setattr(priors, "cubed", lambda t, *, primary: 1e6 * priors.mean(t) ** 3, raising=False)
        monkeypatch.setitem(WHERE["prior"], "cubed", "agl.genes.priors:cubed")
        one = PriorMixture(example_candidates(), priors=["mean", "moran"], fraction=0.3)
        two = PriorMixture(example_candidates(), priors=["cubed", "moran"], fraction=0.3)
        torch.testing.assert_close(one(), two())

    def test_learning_finds_the_prior_that_matters(self):
        """The outer loss falls when genes of high mean are chosen: their prior gains weight."""
        candidates = example_candidates()
        selector = PriorMixture(candidates, priors=["moran", "mean"], fraction=0.3, tau=0.3)
        value = torch.from_numpy(candidates.prior("mean")).float()
        optimizer = torch.optim.Adam(selector.parameters(), lr=0.05)
        for _ in range(60):
            optimizer.zero_grad()
            (-(selector() * (value - value.mean()) / value.std()).mean()).backward()
            optimizer.step()
            selector.project()
        assert selector.mixture()["mean"] > 0.8

    def test_project_keeps_a_gradient(self):
        selector = PriorMixture(example_candidates())
        for outside in (-1.0, 2.0):
            with torch.no_grad():
                selector.fraction.fill_(outside)
            selector.project()
            weights = selector()
            weights.square().sum().backward()
            assert selector.fraction.grad.abs() > 0

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"priors": []}, "at least one"),
            ({"priors": ["mean", "mean"]}, "different priors"),
            ({"priors": ["mean"], "shares": [1.0, 2.0]}, "one share per prior, 1, received 2"),
            ({"priors": ["mean"], "shares": [0.0]}, r"shares\[0\] above 0"),
            ({"fraction": 2.0}, "fraction from 0 to 1"),
        ],
    )
    def test_wrong_options_are_refused(self, options, message):
        with pytest.raises(UserError, match=message):
            PriorMixture(example_candidates(), **options)


def test_a_hypergradient_selector_observes_nothing():
    with pytest.raises(UserError, match="DkGSB learns by the hypergradient"):
        DkGSB(example_candidates()).observe(torch.zeros(32))


def test_a_signal_of_the_wrong_length_is_refused():
    with pytest.raises(UserError, match=r"shape \(32,\), received \(40,\).*leave the primary genes out"):
        InfluenceGates(example_candidates()).observe(torch.zeros(40))


class Broken(Selector):
    """A selector with one thing wrong at a time."""

    def __init__(self, candidates, *, fault):
        super().__init__(candidates)
        self.fault = fault
        self.logits = torch.nn.Parameter(torch.zeros(self.n_genes))
        self.step = 0
        self.register_buffer("calls", torch.zeros(()))
        if fault == "position":
            self.logits = torch.nn.Parameter(torch.linspace(-1, 1, self.n_genes))

    def forward(self):
        weights = torch.sigmoid(self.logits)
        if self.fault == "shape":
            return weights[:-1] if self.n_genes else weights
        if self.fault == "range":
            return weights + 0.9
        if self.fault == "impure":
            self.calls += 1
        if self.fault == "hidden":
            return weights * 0.97**self.step
        return weights

    @property
    def k(self):
        return super().k + (self.fault == "k")

    def project(self):
        self.step += 1


@pytest.mark.parametrize("fault", ["shape", "range", "impure", "k", "hidden", "position"])
def test_the_battery_catches_broken_selectors(fault):
    with pytest.raises(AssertionError, match=r"Expected|follow genes"):
        check_selector(Broken, fault=fault)


def test_the_battery_passes_the_same_selector_when_nothing_is_wrong():
    check_selector(Broken, fault="nothing")


def test_the_battery_catches_a_wrong_derivative():
    class Wrong(AMALScalars):
        def forward(self):
            weights = super().forward()
            return (weights - weights.detach()) * 0.5 + weights.detach()

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        check_selector(Wrong)


def test_learning_moves_the_weights():
    for make, options in BUILT_IN:
        if make in (FixedStrength, DkGSB):  # made-up slopes cancel for a single threshold
            continue
        selector = make(example_candidates(), **options)
        before = selector().detach().clone()
        learn(selector, steps=12)
        assert not torch.allclose(before, selector(), atol=1e-4), make.__name__
