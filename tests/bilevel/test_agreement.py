"""Exact engines agree with each other and with finite differences, whatever trunk, optimiser and horizon."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch

from agl.bilevel import heads
from agl.bilevel.engines import auto, finite_difference, forward, higher, jvp, one_step, reverse
from agl.bilevel.hypergradient import HyperGradient
from agl.bilevel.settings import InnerSettings
from agl.testing.engines import small_problem, trained

Parameters = Iterable[torch.nn.Parameter]
OPTIMIZERS: dict[str, Callable[[Parameters], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.005),
    "adam with L2": lambda p: torch.optim.Adam(p, lr=0.005, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.005, weight_decay=0.1),
    "adam_higher": lambda p: torch.optim.Adam(p, lr=0.005, eps=1e-3),
}


def _error(found: HyperGradient, truth: HyperGradient) -> float:
    """Largest difference over all of phi, relative to its largest number."""
    size = max(float(value.abs().max()) for value in truth.phi.values())
    assert size > 1e-9, "nothing to compare"
    return max(float((found.phi[name] - value).abs().max()) for name, value in truth.phi.items()) / size


def _setting(trunk: str, optimizer: str, steps: int, **options: Any) -> tuple[Any, ...]:
    problem, batch = small_problem(trunk, **options)
    live = OPTIMIZERS[optimizer](problem.model.parameters())
    trained(problem, batch, live)
    inner_optimizer = "adam_higher" if optimizer == "adam_higher" else None
    inner = [batch() for _ in range(steps)]
    return problem, inner, batch(), InnerSettings(live, inner_optimizer=inner_optimizer, seed=5)


@pytest.mark.parametrize("steps", [1, 2, 12])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("trunk", ["mlp", "batchnorm", "cnn"])
def test_exact_engines_agree(trunk: str, optimizer: str, steps: int) -> None:
    problem, inner, outer, settings = _setting(trunk, optimizer, steps)
    problem.selector.tilt.requires_grad_(steps == 2)  # three hyper-parameters, else one: differences take their time
    truth = finite_difference(problem, inner, outer, settings)
    found = {engine.__name__: engine(problem, inner, outer, settings) for engine in (forward, reverse, higher)}
    for name, each in found.items():
        assert _error(each, truth) < 1e-6, name
        assert each.outer_before == pytest.approx(truth.outer_before, rel=1e-12)
        assert each.outer_after == pytest.approx(truth.outer_after, rel=1e-9)
    assert _error(found["forward"], found["reverse"]) < 1e-10
    assert _error(found["forward"], found["higher"]) < 1e-9
    assert found["reverse"].weights is not None
    torch.testing.assert_close(found["reverse"].weights, found["higher"].weights, rtol=1e-7, atol=1e-13)


@pytest.mark.parametrize("statistics", ["batch", "frozen"])
@pytest.mark.parametrize("gate", ["loss", "trunk"])
@pytest.mark.parametrize("combine", ["sum", "weighted_mean"])
def test_they_agree_under_every_option_of_the_problem(combine: str, gate: str, statistics: str) -> None:
    from agl.bilevel import objective

    problem, inner, outer, settings = _setting(
        "batchnorm", "adam", 3, combine=getattr(objective, combine), gate=gate, statistics=statistics, strength=0.7
    )
    truth = finite_difference(problem, inner, outer, settings)
    for engine in (forward, reverse, higher):
        assert _error(engine(problem, inner, outer, settings), truth) < 1e-6, engine.__name__


@pytest.mark.parametrize("warm", [True, False])
def test_warm_and_fresh_moments(warm: bool) -> None:
    problem, inner, outer, settings = _setting("mlp", "adam", 3)
    # A fresh Adam's first step is a sign: eps is raised so that differences can see its derivative.
    for group in settings.optimizer.param_groups:
        group["eps"] = 1e-2
    truth = finite_difference(problem, inner, outer, replace(settings, warm=warm))
    for engine in (forward, reverse, higher):
        assert _error(engine(problem, inner, outer, replace(settings, warm=warm)), truth) < 1e-6, engine.__name__
    other = forward(problem, inner, outer, replace(settings, warm=not warm))
    assert _error(other, truth) > 0.01


def test_stock_higher_is_not_torchs_adam() -> None:
    problem, inner, outer, settings = _setting("mlp", "adam_higher", 4)
    torchs = forward(problem, inner, outer, replace(settings, inner_optimizer=None))
    assert _error(torchs, higher(problem, inner, outer, settings)) > 1e-3
    assert _error(forward(problem, inner, outer, settings), higher(problem, inner, outer, settings)) < 1e-10


def test_blocks_of_heads_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, inner, outer, settings = _setting("mlp", "adam", 3, n_genes=150, n_primary=40)
    whole = forward(problem, inner, outer, settings)
    scores = reverse(problem, inner, outer, settings)
    monkeypatch.setattr(heads, "BLOCK", 1)  # at least 32 genes a block: 2 primary, 4 auxiliary
    monkeypatch.setattr(heads, "CHUNK", 30)
    assert _error(forward(problem, inner, outer, settings), whole) < 1e-12
    again = reverse(problem, inner, outer, settings)
    torch.testing.assert_close(again.weights, scores.weights, rtol=1e-10, atol=1e-15)
    one = reverse(problem, inner[:1], outer, settings)
    torch.testing.assert_close(jvp(problem, inner[:1], outer, settings).weights, one.weights)


def test_weight_and_bias_with_rules_of_their_own() -> None:
    problem, batch = small_problem("mlp")
    decayed = [p for name, p in problem.model.named_parameters() if name.endswith("weight")]
    plain = [p for name, p in problem.model.named_parameters() if name.endswith("bias")]
    live = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.3}, {"params": plain, "lr": 0.03}], lr=0.01)
    trained(problem, batch, live)
    inner, outer = [batch() for _ in range(3)], batch()
    truth = finite_difference(problem, inner, outer, InnerSettings(live))
    for engine in (forward, reverse, higher):
        assert _error(engine(problem, inner, outer, InnerSettings(live)), truth) < 1e-6, engine.__name__


@pytest.mark.parametrize("bias", [True, False])
def test_heads_without_bias_and_a_half_frozen_trunk(bias: bool) -> None:
    problem, batch = small_problem("mlp")
    problem.model.head = torch.nn.Linear(5, 11, bias=bias).double()
    problem.trunk[0].bias.requires_grad_(False)
    live = torch.optim.Adam([p for p in problem.model.parameters() if p.requires_grad], lr=0.01)
    trained(problem, batch, live)
    inner, outer = [batch() for _ in range(3)], batch()
    truth = finite_difference(problem, inner, outer, InnerSettings(live))
    for engine in (forward, reverse, higher):
        assert _error(engine(problem, inner, outer, InnerSettings(live)), truth) < 1e-6, engine.__name__


@pytest.mark.parametrize("engine", [jvp, one_step])
def test_one_pass_scores_are_exact_for_one_step(engine: Callable[..., HyperGradient]) -> None:
    for gate in ("loss", "trunk"):
        problem, inner, outer, settings = _setting("dropout", "adam", 1, gate=gate)
        extra = {"by": 1e-5} if engine is one_step else {}
        found = engine(problem, inner, outer, settings, **extra)
        exact = reverse(problem, inner, outer, settings)
        torch.testing.assert_close(found.weights, exact.weights, rtol=1e-6, atol=1e-12)
        assert found.outer_after == pytest.approx(exact.outer_after, rel=1e-12)
    derivative = one_step(problem, inner, outer, settings, exact=True)
    torch.testing.assert_close(derivative.weights, jvp(problem, inner, outer, settings).weights)


def test_one_pass_scores_keep_the_direction_of_many_steps_with_warm_adam() -> None:
    problem, inner, outer, settings = _setting("mlp", "adam", 1, n_genes=60)
    for group in settings.optimizer.param_groups:
        group["lr"] = 1e-4
    exact = reverse(problem, inner * 12, outer, settings).weights
    found = jvp(problem, inner * 12, outer, settings).weights
    assert exact is not None
    assert found is not None
    assert float(torch.cosine_similarity(exact, found, dim=0)) > 0.98
    assert float(found.norm() / exact.norm()) == pytest.approx(1, abs=0.2)


def test_auto_takes_an_exact_engine_for_a_handful_and_jvp_for_genes(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, inner, outer, settings = _setting("mlp", "adam", 4)
    taken: list[str] = []
    for engine in (forward, reverse, jvp):
        spy = functools.wraps(engine)(lambda *a, engine=engine, **o: taken.append(engine.__name__) or engine(*a, **o))
        monkeypatch.setattr(f"agl.bilevel.engines.{engine.__name__}", spy)
    few = auto(problem, inner[:3], outer, settings)  # three hyper-parameters
    assert _error(few, forward(problem, inner[:3], outer, settings)) < 1e-10
    auto(problem, inner, outer, settings)
    problem.selector.tilt.requires_grad_(False)
    auto(problem, inner[:1], outer, settings)
    problem.selector.signal = "influence"
    assert auto(problem, inner, outer, settings).weights is not None
    assert taken == ["reverse", "forward", "forward", "jvp"]


def test_genes_of_no_weight_can_be_left_out() -> None:
    problem, inner, outer, settings = _setting("mlp", "adam", 4, n_genes=300)
    problem.selector.rank[50:] = 4.0  # weight below 1e-15
    whole = forward(problem, inner, outer, settings, prune=0.0)
    assert _error(forward(problem, inner, outer, settings), whole) < 1e-6


@pytest.mark.parametrize("gate", ["loss", "trunk"])
def test_genes_whose_weight_stands_still_are_part_of_the_look_ahead(gate: str) -> None:
    problem, inner, outer, settings = _setting("mlp", "adam", 3, n_genes=40, gate=gate)
    problem.selector.rank[:15] = -4.0  # weight 1 to 1e-15: they train the trunk, and no tangent is theirs
    problem.selector.rank[15:20] = 4.0
    found = forward(problem, inner, outer, settings)
    assert _error(found, reverse(problem, inner, outer, settings)) < 1e-6
    assert _error(found, finite_difference(problem, inner, outer, settings)) < 1e-6
    for batch in inner:
        batch.counts[:, 3:18] = batch.counts[:, 3:18].flip(0)
    assert _error(forward(problem, inner, outer, settings), found) > 1e-3, "the standing genes' counts did not matter"


def test_float32_is_near_float64_and_precision_raises_it() -> None:
    problem, inner, outer, settings = _setting("mlp", "adam", 12, dtype=torch.float32)
    truth = forward(problem, inner, outer, replace(settings, precision=torch.float64))
    assert next(iter(truth.phi.values())).dtype == torch.float64
    assert _error(forward(problem, inner, outer, settings), truth) < 1e-3
    for engine in (reverse, higher):
        assert _error(engine(problem, inner, outer, replace(settings, precision=torch.float64)), truth) < 1e-9


def test_a_random_loss_draws_the_same_pairs_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def pairs(scores: Any, counts: Any, *, slides: Any, library_size: Any, generator: Any = None) -> Any:
        other = torch.randperm(len(scores), generator=generator)
        return torch.nn.functional.softplus(-(scores - scores[other]) * (counts - counts[other]).sign()).mean(0)

    problem, inner, outer, settings = _setting("mlp", "adam", 3, n_genes=80)
    problem = type(problem)(problem.model, pairs, problem.selector, problem.n_primary)
    truth = finite_difference(problem, inner, outer, settings)
    monkeypatch.setattr(heads, "BLOCK", 1)
    for engine in (forward, reverse, higher):
        assert _error(engine(problem, inner, outer, settings), truth) < 1e-6, engine.__name__


def test_a_loss_with_values_per_gene() -> None:
    class Scaled(torch.nn.Module):
        def __init__(self, n_genes: int) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.linspace(0.5, 2, n_genes))

        def forward(self, scores: Any, counts: Any, *, slides: Any, library_size: Any) -> Any:
            return self.scale * (scores - counts.log1p()).square().mean(0)

    problem, inner, outer, settings = _setting("mlp", "adam", 3, n_genes=80)
    problem = type(problem)(problem.model, Scaled(80).double(), problem.selector, problem.n_primary)
    truth = finite_difference(problem, inner, outer, settings)
    for engine in (forward, reverse, higher):
        assert _error(engine(problem, inner, outer, settings), truth) < 1e-6, engine.__name__


def test_wide_heads_with_spare_columns() -> None:
    """From 64 hidden features on, a row of heads is padded: 70 + bias becomes 80."""
    problem, batch = small_problem("mlp", n_genes=40)
    problem.model.trunk = torch.nn.Sequential(torch.nn.Linear(6, 70), torch.nn.GELU()).double()
    problem.model.head = torch.nn.Linear(70, 40).double()
    live = torch.optim.AdamW(problem.model.parameters(), lr=0.005)
    trained(problem, batch, live)
    inner, outer = [batch() for _ in range(3)], batch()
    problem.selector.tilt.requires_grad_(False)
    truth = finite_difference(problem, inner, outer, InnerSettings(live))
    for engine in (forward, reverse, higher):
        assert _error(engine(problem, inner, outer, InnerSettings(live)), truth) < 1e-6, engine.__name__
    exact = reverse(problem, inner[:1], outer, InnerSettings(live)).weights
    torch.testing.assert_close(
        jvp(problem, inner[:1], outer, InnerSettings(live)).weights, exact, rtol=1e-9, atol=1e-15
    )
    differences = one_step(problem, inner[:1], outer, InnerSettings(live), by=1e-5).weights
    torch.testing.assert_close(differences, exact, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_scores_without_a_look_ahead_are_the_limit_of_small_steps(optimizer: str) -> None:
    problem, inner, outer, settings = _setting("cnn", optimizer, 1, n_genes=60, statistics="frozen")
    for group in settings.optimizer.param_groups:
        group["lr"] = 1e-7
    exact = jvp(problem, inner, outer, settings).weights
    found = jvp(problem, inner, outer, settings, look_ahead=False)
    torch.testing.assert_close(found.weights, exact, rtol=1e-4, atol=1e-15)
    assert found.outer_after == found.outer_before


def test_scores_without_a_look_ahead_keep_adams_direction_after_some_hundred_steps() -> None:
    problem, batch = small_problem("mlp", n_genes=60)
    live = torch.optim.Adam(problem.model.parameters(), lr=1e-3)
    trained(problem, batch, live, 300)
    inner, outer = [batch()], batch()
    exact = jvp(problem, inner, outer, InnerSettings(live)).weights
    found = jvp(problem, inner, outer, InnerSettings(live), look_ahead=False).weights
    assert exact is not None
    assert found is not None
    assert float(torch.cosine_similarity(exact, found, dim=0)) > 0.95


def test_scores_without_a_look_ahead_need_moments() -> None:
    from agl.errors import UserError

    problem, inner, outer, settings = _setting("mlp", "adam", 1)
    with pytest.raises(UserError, match="received a fresh one; train a little first"):
        jvp(problem, inner, outer, replace(settings, warm=False), look_ahead=False)


def test_a_batch_given_several_times_is_read_once() -> None:
    problem, inner, outer, settings = _setting("mlp", "adam", 2)
    calls = []
    counted = type(problem)(
        problem.model, lambda *a, **k: (calls.append(1), problem.gene_loss(*a, **k))[1], problem.selector, 3
    )
    jvp(counted, inner[:1] * 6, outer, settings)
    once = len(calls)
    jvp(counted, inner[:1], outer, settings)
    assert once == len(calls) - once
    jvp(counted, inner, outer, settings)
    assert len(calls) > 3 * once


def test_a_trunk_without_forward_derivatives_is_differentiated_twice_backward() -> None:
    """SiLU's gradient has no forward derivative in torch 2.13; heads must move once all the same."""
    problem, inner, outer, _ = _setting("mlp", "adam", 3)
    problem.model.trunk = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.SiLU()).double()
    live = torch.optim.Adam(problem.model.parameters(), lr=0.01)
    truth = finite_difference(problem, inner, outer, InnerSettings(live, inner_optimizer="sgd", inner_lr=0.05))
    for engine in (forward, reverse):
        found = engine(problem, inner, outer, InnerSettings(live, inner_optimizer="sgd", inner_lr=0.05))
        assert _error(found, truth) < 1e-6, engine.__name__


def test_memory_is_given_back_without_the_collector() -> None:
    """A graph caught in a cycle would stay until the collector runs, and memory would grow with the horizon."""
    import gc

    import strank

    problem, inner, outer, settings = _setting("mlp", "adam", 3)
    problem = type(problem)(problem.model, strank.pearson_loss, problem.selector, 3)
    forward(problem, inner, outer, settings)
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())
        forward(problem, inner * 4, outer, settings)
        assert sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()) == before
    finally:
        gc.enable()
