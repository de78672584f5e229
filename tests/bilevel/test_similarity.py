"""Cosines of per-gene gradients against autograd, gene by gene."""

from __future__ import annotations

import torch
from torch import nn

import strank
from agl.bilevel.problem import Problem
from agl.bilevel.similarity import gradient_similarity
from agl.data.batches import Batch
from agl.models.predictor import mlp


class Ones(nn.Module):
    def forward(self) -> torch.Tensor:
        return torch.ones(4)


def problem_and_batch(loss=strank.listwise_nll) -> tuple[Problem, Batch]:
    torch.manual_seed(0)
    model = mlp(5, 7, hidden=(6,), dropout=0.0).double()
    batch = Batch(
        torch.randn(20, 5, dtype=torch.float64),
        torch.poisson(torch.full((20, 7), 3.0)).double(),
        torch.full((20,), 50.0, dtype=torch.float64),
        torch.arange(20) % 2,
        torch.arange(20),
    )
    return Problem(model, loss, Ones(), n_primary=3), batch


def test_it_is_the_cosine_of_the_gradients_for_the_hidden_features() -> None:
    for loss in (strank.listwise_nll, strank.pearson_loss, strank.mse):
        problem, batch = problem_and_batch(loss)
        hidden = problem.model.trunk(batch.inputs).detach().requires_grad_()
        losses = loss(problem.model.head(hidden), batch.counts, slides=batch.slides, library_size=batch.library_size)
        rows = [torch.autograd.grad(each, hidden, retain_graph=True)[0].flatten() for each in losses]
        primary = torch.stack(rows[:3]).mean(0)
        expected = [torch.cosine_similarity(row, primary, dim=0) for row in rows[3:]]
        assert torch.allclose(gradient_similarity(problem, batch), torch.stack(expected))


def test_a_gene_without_counts_has_no_direction() -> None:
    problem, batch = problem_and_batch()
    batch.counts[:, 5] = 0
    assert gradient_similarity(problem, batch).isnan().tolist() == [False, False, True, False]


def test_a_copy_of_the_primary_gene_points_its_way() -> None:
    problem, batch = problem_and_batch()
    with torch.no_grad():
        problem.model.head.weight[:] = problem.model.head.weight[0]
        problem.model.head.bias[:] = problem.model.head.bias[0]
    batch.counts[:] = batch.counts[:, :1]
    assert torch.allclose(gradient_similarity(problem, batch), torch.ones(4, dtype=torch.float64))


def test_the_live_model_and_the_random_state_are_left_alone() -> None:
    problem, batch = problem_and_batch()
    problem.model.trunk.add_module("norm", nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5)).double())
    problem.model.train()
    buffers, state = {n: b.clone() for n, b in problem.model.named_buffers()}, torch.get_rng_state()
    first = gradient_similarity(problem, batch, seed=3)
    assert all(torch.equal(b, buffers[n]) for n, b in problem.model.named_buffers())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, gradient_similarity(problem, batch, seed=3))
    assert not torch.equal(first, gradient_similarity(problem, batch, seed=4))
