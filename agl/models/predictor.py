"""A predictor: a trunk that all genes share, and one linear head per gene."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Predictor(nn.Module):
    """scores = head(trunk(inputs)).

    The trunk is what auxiliary genes share with the primary ones; the heads are private to their genes.

    Args:
        trunk: inputs -> hidden `[spot, hidden]`.
        n_hidden: width of the hidden layer.
        n_genes: genes of the panel, primary genes first.
    """

    def __init__(self, trunk: nn.Module, n_hidden: int, n_genes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(n_hidden, n_genes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores `[spot, gene]`."""
        return self.head(self.trunk(inputs))

    @property
    def shares(self) -> bool:
        """Whether anything trainable lies in the trunk."""
        return any(parameter.requires_grad for parameter in self.trunk.parameters())


class Standardise(nn.Module):
    """(x - mean) / sd with the training spots' mean and standard deviation, kept as buffers of the model.

    A feature that is constant over the training spots becomes 0 instead of infinite.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def fit(self, features: Tensor) -> None:
        """Take mean and sd from `[spot, feature]` of training spots."""
        exact = features.double()
        sd = exact.std(0, correction=0)
        constant = sd <= 1e-6 * (1 + exact.mean(0).abs())
        self.mean.copy_(exact.mean(0))
        self.scale.copy_(torch.where(constant, torch.zeros_like(sd), 1 / sd.clamp_min(1e-12)))

    def forward(self, features: Tensor) -> Tensor:
        """Standardised features, same shape."""
        return (features.to(self.mean.dtype) - self.mean) * self.scale


def linear(n_features: int, n_genes: int) -> Predictor:
    """A linear model on standardised features. Nothing is shared: auxiliary genes cannot change the primary ones."""
    return Predictor(Standardise(n_features), n_features, n_genes)


def mlp(
    n_features: int,
    n_genes: int,
    *,
    hidden: Sequence[int] = (256,),
    dropout: float = 0.3,
    activation: str = "gelu",
) -> Predictor:
    """Standardised features -> fully connected layers that all genes share -> one linear head per gene.

    >>> mlp(8, 3, hidden=(16,))(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    """
    activations: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh}
    if activation not in activations:
        raise ValueError(f"Expected activation in {sorted(activations)}, received {activation!r}.")
    layers: list[nn.Module] = [Standardise(n_features)]
    width = n_features
    for size in hidden:
        layers += [nn.Linear(width, size), activations[activation]()]
        layers += [nn.Dropout(dropout)] if dropout > 0 else []
        width = size
    return Predictor(nn.Sequential(*layers), width, n_genes)


def resnet18(n_genes: int, *, weights: str | None = None, frozen: bool = False, size: int | None = None) -> Predictor:
    """ResNet-18 on patches, end to end.

    Args:
        weights: a local file with torchvision's parameter names.
        frozen: train the heads only.
        size: average the patches down to this many pixels a side, as a CPU needs it; None takes them as they are.
    """
    return _resnet("resnet18", n_genes, weights, frozen, size)


def resnet50(n_genes: int, *, weights: str | None = None, frozen: bool = False, size: int | None = None) -> Predictor:
    """ResNet-50 on patches, end to end; arguments as `resnet18`."""
    return _resnet("resnet50", n_genes, weights, frozen, size)


def _resnet(name: str, n_genes: int, weights: str | None, frozen: bool, size: int | None) -> Predictor:
    from agl.models import resnet

    trunk = getattr(resnet, name)(size=size)
    if weights is not None:
        resnet.load_weights(trunk, weights)
    trunk.requires_grad_(not frozen)
    return Predictor(trunk, trunk.out_features, n_genes)
