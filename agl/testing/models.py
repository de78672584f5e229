"""Does a predictor fit? For ours, and for yours.

>>> from agl.models.predictor import mlp
>>> check_model(mlp, hidden=(8,))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from agl import registry

N_SPOTS, N_GENES, N_FEATURES = 6, 4, 5


def check_model(make: Callable[..., nn.Module], *, patch_size: int | None = None, **options: Any) -> None:
    """Assert the contract of a predictor: `make(n_features=..., n_genes=..., **options)`, inputs -> `[spot, gene]`.

    In evaluation a spot's scores are its own: they depend on no other spot of the batch, and on no random draw. Of a
    model with `whole_slides`, whose batches are slides, they follow the spot into any order of them. Every trainable
    parameter gets a gradient. A saved and loaded state gives the same scores. A model that `shares` has a `.trunk` and
    a linear `.head`, so that auxiliary genes can reach the primary ones and the engines find both.

    Args:
        patch_size: None for a model of features `[spot, feature]`, else pixels of the patches uint8
            `[spot, height, width, 3]` it takes; `n_features` is then not given.
    """
    inputs = _inputs(patch_size)
    given: dict[str, Any] = {"n_genes": N_GENES} | ({"n_features": N_FEATURES} if patch_size is None else {})
    given = {word: value for word, value in given.items() if word in registry.parameters(make)}
    torch.manual_seed(0)
    model = make(**given, **options)
    assert isinstance(model, nn.Module), f"Expected an nn.Module, received {type(model).__name__}."
    scores = model.eval()(inputs)
    assert isinstance(scores, Tensor), f"Expected a tensor of scores, received {type(scores).__name__}."
    assert scores.shape == (N_SPOTS, N_GENES), f"Expected shape ({N_SPOTS}, {N_GENES}), received {tuple(scores.shape)}."
    assert scores.is_floating_point(), f"Expected floating-point scores, received {scores.dtype}."
    assert bool(scores.isfinite().all()), "Expected finite scores, received NaN or infinity."
    assert torch.equal(scores, model(inputs)), "Expected the same scores twice in evaluation, received others."
    order = [4, 2, 0, 5, 1, 3]
    torch.testing.assert_close(
        model(inputs[order]), scores[order], rtol=1e-4, atol=1e-5,
        msg="Expected a spot's scores to be the same in any order of the batch in evaluation, received others.",
    )  # fmt: skip
    for spots in () if getattr(model, "whole_slides", False) else ([0], [3, 1]):
        torch.testing.assert_close(
            model(inputs[spots]), scores[spots], rtol=1e-4, atol=1e-5,
            msg="Expected a spot's scores to depend on no other spot of the batch in evaluation, received others.",
        )  # fmt: skip
    _check_gradients(model, inputs)
    _check_sharing(model)
    torch.manual_seed(1)
    other = make(**given, **options)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(inputs), other.eval()(inputs)), (
        "Expected the state to hold all that scores depend on, received other scores from a model that loaded it."
    )


def _inputs(patch_size: int | None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if patch_size is None:
        return torch.randn(N_SPOTS, N_FEATURES, generator=generator)
    return torch.randint(30, 250, (N_SPOTS, patch_size, patch_size, 3), generator=generator, dtype=torch.uint8)


def _check_gradients(model: nn.Module, inputs: Tensor) -> None:
    model.train()(inputs).square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"Expected a gradient for {name}, received none: is it used?"
            assert bool(parameter.grad.isfinite().all()), f"Expected a finite gradient for {name}."


def _check_sharing(model: nn.Module) -> None:
    shares = getattr(model, "shares", None)
    assert isinstance(shares, bool), "Expected .shares, whether anything trainable is shared by all genes, as a bool."
    if shares:
        assert isinstance(getattr(model, "trunk", None), nn.Module), "Expected .trunk in a model that shares one."
        assert isinstance(getattr(model, "head", None), nn.Linear), "Expected a linear .head on the trunk."
