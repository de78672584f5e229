"""A predictor: a trunk that all genes share, and one linear head per gene, on top of scores solved beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from agl.models.dropout import Dropout

BLOCK = 8192  # spots whose features are in double precision at one time
WIDEST = 1 << 16  # a layer of more would not fit anywhere
StartFrom = Literal["auto", "low_rank", "convex", "none"]


class Predictor(nn.Module):
    """scores = head(trunk(inputs)), plus start(inputs) where there is one.

    The trunk is what auxiliary genes share with the primary ones; the heads are private to their genes. With a start
    the heads begin at 0, so that before the first step the scores are the start's.

    Args:
        trunk: inputs -> hidden `[spot, hidden]`.
        n_hidden: width of the hidden layer.
        n_genes: genes of the panel, primary genes first.
        start: fixed scores that the network adds to.
    """

    def __init__(self, trunk: nn.Module, n_hidden: int, n_genes: int, start: Start | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(n_hidden, n_genes)
        self.start = start
        if start is not None:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores `[spot, gene]`."""
        scores = self.head(self.trunk(inputs))
        return scores if self.start is None else scores + self.start(inputs)

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

    def fit(self, features: Tensor | np.ndarray, spots: np.ndarray | None = None) -> None:
        """Take mean and sd from `[spot, feature]`, of all spots or of some, block by block: they may lie on a disk."""
        n = len(features) if spots is None else len(spots)

        def blocks() -> Iterator[Tensor]:
            for start in range(0, n, BLOCK):
                here = slice(start, start + BLOCK)
                block = features[here if spots is None else spots[here]]
                yield (block if isinstance(block, Tensor) else torch.from_numpy(np.array(block))).float().double()

        if n <= BLOCK:
            (exact,) = blocks()
            mean, sd = exact.mean(0), exact.std(0, correction=0)
        else:
            mean = sum((block.sum(0) for block in blocks()), start=torch.zeros(())) / n
            sd = (sum(((block - mean).square().sum(0) for block in blocks()), start=torch.zeros(())) / n).sqrt()
        constant = sd <= 1e-6 * (1 + mean.abs())
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(constant, torch.zeros_like(sd), 1 / sd.clamp_min(1e-12)))

    def forward(self, features: Tensor) -> Tensor:
        """Standardised features, same shape."""
        return (features.to(self.mean.dtype) - self.mean) * self.scale


class Start(nn.Module):
    """Linear scores `[spot, gene]` that were solved beforehand; buffers, so that no step of training moves them.

    They are 0 until `take` gives them their weights. Features are standardised first, as single precision needs it.

    >>> start = Start(2, 1)
    >>> start.take(torch.tensor([[1.0], [2.0]]), torch.tensor([0.5]))
    >>> start(torch.tensor([[3.0, 4.0]]))
    tensor([[11.5000]])
    """

    weight: Tensor
    level: Tensor

    def __init__(self, n_features: int, n_genes: int) -> None:
        super().__init__()
        self.standardise = Standardise(n_features)
        self.register_buffer("weight", torch.zeros(n_genes, n_features))
        self.register_buffer("level", torch.zeros(n_genes))

    def take(self, weights: Tensor, intercept: Tensor) -> None:
        """Weights `[feature, gene]` and intercept `[gene]` for raw features."""
        mean, scale = (each.double().cpu() for each in (self.standardise.mean, self.standardise.scale))
        exact = weights.double().cpu()
        self.weight.copy_((exact / torch.where(scale > 0, scale, torch.inf)[:, None]).T)
        self.level.copy_(intercept.double().cpu() + mean @ exact)

    def forward(self, features: Tensor, genes: slice | Tensor = slice(None)) -> Tensor:
        """Scores of some genes; in single precision also where the network around it is not."""
        with torch.autocast(features.device.type, enabled=False):
            return nn.functional.linear(self.standardise(features), self.weight[genes], self.level[genes])


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
    start: StartFrom = "auto",
) -> Predictor:
    """Standardised features -> fully connected layers that all genes share -> one linear head per gene.

    Args:
        start: the scores that training begins with and adds to. "low_rank" or "convex": the solution of the estimator
            of that name, on the training spots; "none": random heads. "auto" is "low_rank" in a run whose loss can be
            solved, else "none".

    >>> mlp(8, 3, hidden=(16,))(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    """
    activations: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh}
    if activation not in activations:
        raise ValueError(f"Expected activation in {sorted(activations)}, received {activation!r}.")
    if start not in get_args(StartFrom):
        raise ValueError(f"Expected start in {list(get_args(StartFrom))}, received {start!r}.")
    if any(isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= WIDEST for size in hidden):
        raise ValueError(f"Expected hidden as widths of layers from 1 to {WIDEST:,}, received {list(hidden)}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"Expected dropout as a share of a layer, 0 or more and below 1, received {dropout}.")
    layers: list[nn.Module] = [Standardise(n_features)]
    width = n_features
    for size in hidden:
        layers += [nn.Linear(width, size), activations[activation]()]
        layers += [Dropout(dropout)] if dropout > 0 else []
        width = size
    begin = Start(n_features, n_genes) if start in ("low_rank", "convex") else None
    return Predictor(nn.Sequential(*layers), width, n_genes, begin)


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
