"""Merges of gradients against their papers' problems, solved by others; and what the training does with them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import strank
from agl import registry
from agl.bilevel import objective
from agl.config import Component, Training
from agl.data.batches import SpotLoader, grouped
from agl.data.dataset import Dataset
from agl.errors import UserError
from agl.models.predictor import linear, mlp
from agl.testing import check_merge
from agl.training.merges import GradNorm, MetaBalance, NashMTL, cagrad, pcgrad
from agl.training.merging import merge_of
from agl.training.task import Task
from agl.training.trainer import Trainer


def two(seed: int, n: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, n, generator=generator, dtype=torch.float64) * torch.tensor([[1.0], [3.0]])


@pytest.mark.parametrize("name", registry.names("merge"))
def test_every_merge_keeps_the_contract(name: str) -> None:
    check_merge(registry.find("merge", name))


@pytest.mark.parametrize(("make", "options"), [(MetaBalance, {"scale": "all", "groups": 3}), (NashMTL, {"groups": 7})])
def test_several_groups_keep_it_too(make, options) -> None:
    check_merge(make, **options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda gradients: gradients.mean(), "Expected shape"),
        (lambda gradients: gradients.sum(0) + torch.randn(gradients.shape[1]), "same bits"),
        (lambda gradients: gradients.sum(0) / gradients.sum(0).norm(), "times 8"),
        (lambda gradients: gradients[0] - gradients[1:].sum(0), "agree"),
        (lambda gradients: gradients.mul_(2).sum(0), "left as they were"),
        (lambda gradients: gradients[1] + gradients[0].flip(0), "primary genes' direction"),
    ],
)
def test_broken_ones_are_caught(wrong, message) -> None:
    with pytest.raises(AssertionError, match=message):
        check_merge(wrong)


def test_what_pcgrad_takes_away_is_what_pointed_against_the_other() -> None:
    for seed in range(20):
        a, b = two(seed).numpy()
        if a @ b >= 0:
            expected, kept = a + b, a + b
        else:  # least squares of one on the other, and what is left
            rest_a = a - np.linalg.lstsq(b[:, None], a, rcond=None)[0] * b
            rest_b = b - np.linalg.lstsq(a[:, None], b, rcond=None)[0] * a
            expected, kept = rest_a + rest_b, a + rest_b
        np.testing.assert_allclose(pcgrad(two(seed)), expected, atol=1e-12)
        np.testing.assert_allclose(pcgrad(two(seed), both=False), kept, atol=1e-12)


@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
def test_cagrad_is_the_best_of_its_ball(c: float) -> None:
    """max_d min_i g_i . d within |d - g_0| <= c |g_0|, by SciPy: t as a third unknown, d in the plane of the two."""
    for seed in range(6):
        gradients = two(seed).numpy()
        mean = gradients.mean(0)
        basis = np.linalg.qr(gradients.T)[0]
        within = {"type": "ineq", "fun": lambda v, m=mean, b=basis: c**2 * m @ m - np.sum((b @ v[:2] - m) ** 2)}
        worst = {"type": "ineq", "fun": lambda v, g=gradients, b=basis: g @ (b @ v[:2]) - v[2]}
        start = np.array([*(basis.T @ mean), (gradients @ mean).min()])
        found = minimize(lambda v: -v[2], start, constraints=[within, worst], method="SLSQP", options={"ftol": 1e-12})
        ours = cagrad(two(seed), c=c).numpy() / 2
        assert np.linalg.norm(ours - mean) <= c * np.linalg.norm(mean) * (1 + 1e-9)
        np.testing.assert_allclose((gradients @ ours).min(), found.x[2], rtol=1e-5)


def test_metabalance_follows_its_algorithm_tensor_by_tensor() -> None:
    merge, lengths = MetaBalance(relax=0.6, memory=0.8, scale="larger"), np.zeros((2, 2))
    for seed in range(5):
        gradients = two(seed).numpy()
        expected = np.empty(6)
        for t, here in enumerate((slice(0, 2), slice(2, 6))):
            primary, other = gradients[:, here]
            for i, g in enumerate((primary, other)):
                lengths[t, i] = 0.8 * lengths[t, i] + 0.2 * np.linalg.norm(g)
            if lengths[t, 1] > lengths[t, 0]:
                other = 0.6 * other * lengths[t, 0] / lengths[t, 1] + 0.4 * other
            expected[here] = primary + other
        np.testing.assert_allclose(merge(two(seed), sizes=[2, 4]), expected, rtol=1e-12)


def test_gradnorm_follows_the_gradient_of_its_loss() -> None:
    """Autograd of L_grad, targets held fixed; steps in units of the mean length."""
    merge, w = GradNorm(alpha=0.7, rate=0.1), torch.ones(2, dtype=torch.float64)
    for seed in range(5):
        gradients, losses = two(seed), torch.tensor([1.0, 2.0], dtype=torch.float64) * torch.tensor([0.9, 0.7]) ** seed
        lengths = gradients.norm(dim=1)
        w = w.clone().requires_grad_()
        pace = torch.tensor([0.9, 0.7], dtype=torch.float64) ** seed
        target = ((w * lengths).mean() * (pace / pace.mean()) ** 0.7).detach()
        (slope,) = torch.autograd.grad((w * lengths - target).abs().sum(), w)
        torch.testing.assert_close(merge(gradients, losses=losses), w.detach() @ gradients)
        w = (w - 0.1 * slope / lengths.mean()).detach()
        w = 2 * w / w.sum()
    torch.testing.assert_close(merge.weights, w, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("tasks", [2, 5])
def test_nash_bargaining_is_the_fair_point(tasks: int) -> None:
    """The direction maximises sum log(g_i . d) among those of its length, by SciPy; and G G' a = 1 / a."""
    generator = torch.Generator().manual_seed(tasks)
    gradients = torch.randn(tasks, 6, generator=generator, dtype=torch.float64) + 1
    ours = NashMTL(groups=tasks - 1)(gradients).numpy()
    each = gradients.numpy()

    def loss(d: np.ndarray) -> float:
        return -np.log(np.clip(each @ d / np.linalg.norm(d), 1e-9, None)).sum()

    found = minimize(loss, each.mean(0), method="BFGS", options={"gtol": 1e-10, "maxiter": 10_000}).x
    np.testing.assert_allclose(ours / np.linalg.norm(ours), found / np.linalg.norm(found), atol=1e-4)
    assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(each.sum(0)))


def trainer_with(dataset: Dataset, merge, model=mlp, **task) -> Trainer:
    torch.manual_seed(0)
    predictor = model(dataset.features.shape[1], 9, **({"hidden": (8,), "dropout": 0.0} if model is mlp else {}))
    given = Task(
        predictor, strank.listwise_nll, SpotLoader(dataset, np.arange(9)), np.arange(80), np.arange(80, 120), 4,
        torch.tensor([1.0, 0.5, 0.0, 1.0, 1.0]), merge=merge, **task,
    )  # fmt: skip
    return Trainer(given, Training(epochs=2, batch_size=40), grouped)


@pytest.mark.parametrize("gate", ["loss", "trunk"])
@pytest.mark.parametrize("combine", [objective.balanced, objective.sum, objective.weighted_mean])
def test_the_sum_of_the_tasks_is_training_as_always(dataset: Dataset, gate: str, combine) -> None:
    plain = trainer_with(dataset, None, gate=gate, combine=combine)
    added = trainer_with(dataset, lambda gradients: gradients.sum(0), gate=gate, combine=combine)
    for trainer in (plain, added):
        trainer._descend(*trainer.objective(trainer.task.loader(np.arange(40))))
    for a, b in zip(plain.task.model.parameters(), added.task.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_the_trunk_follows_the_merge_and_heads_their_own_losses(dataset: Dataset) -> None:
    """Primary genes alone in the trunk: its first step is that of training without auxiliary genes."""
    alone = trainer_with(dataset, lambda gradients: gradients[0])
    without = trainer_with(dataset, None)
    without.task.weights = torch.zeros(5)
    for trainer in (alone, without):
        batch = trainer.task.loader(np.arange(40))
        trainer._descend(*trainer.objective(batch))
    ours, theirs = alone.task.model, without.task.model
    torch.testing.assert_close(ours.trunk[1].weight.grad, theirs.trunk[1].weight.grad, rtol=1e-4, atol=1e-7)
    assert bool(ours.head.weight.grad[4].any())  # an auxiliary gene's head learns all the same
    assert not bool(ours.head.weight.grad[6].any())  # one of weight 0 does not


def test_a_resumed_training_ends_with_the_same_bits(dataset: Dataset) -> None:
    whole, first, second = (trainer_with(dataset, MetaBalance()) for _ in range(3))
    whole.fit()
    first.settings = first.settings.model_copy(update={"epochs": 1})
    first.fit()
    second.load_state_dict(first.state_dict())
    second.fit()
    for a, b in zip(whole.task.model.parameters(), second.task.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_does_not_fit_is_one_sentence(dataset: Dataset) -> None:
    with pytest.raises(UserError, match=r"Expected a model with a trainable trunk .* for auxiliary.merge"):
        trainer_with(dataset, pcgrad, model=linear).fit()
    with pytest.raises(UserError, match="Expected one gradient"):
        trainer_with(dataset, lambda gradients: gradients).fit()
    wrong = {
        "c of cagrad": functools.partial(cagrad, two(0), c=1.0),
        "scale": functools.partial(MetaBalance, scale="x"),
        "groups": functools.partial(NashMTL, groups=0),
        "alpha": functools.partial(GradNorm, alpha=-1),
    }
    for word, make in wrong.items():
        with pytest.raises(UserError, match=f"Expected {word}"):
            make()


def test_a_config_names_one() -> None:
    assert merge_of(Component(name="sum")) is None
    assert isinstance(merge_of(Component.model_validate({"name": "metabalance", "relax": 0.2})), MetaBalance)
    torch.testing.assert_close(
        merge_of(Component.model_validate({"name": "pcgrad", "both": False}))(two(1)), pcgrad(two(1), both=False)
    )
