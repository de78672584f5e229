"""ResNet-18 and ResNet-50 as image trunks, in torch alone, with torchvision's parameter names and order.

So any published ImageNet or pathology weights for these architectures load from a local file, without
torchvision. He et al., "Deep residual learning for image recognition", CVPR 2016; the stride of a bottleneck sits
on its 3x3 convolution, as in torchvision. The classifier (`fc`) is left out: the output is the pooled last map.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agl.data.images.weights import read_weights
from agl.errors import UserError, did_you_mean

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    # Left uninitialised here: `_initialise` draws every weight from the caller's generator.
    with torch.device("meta"):
        layer = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
    return layer.to_empty(device="cpu")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (ResNet-18)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the width, beside a shortcut (ResNet-50)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


ARCHITECTURES: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """Image trunk: patches to `out_features` numbers (512 for `resnet18`, 2048 for `resnet50`).

    Input is uint8 `[spot, height, width, 3]` or float `[spot, 3, height, width]` in [0, 1]; ImageNet's mean
    and standard deviation are applied inside. Weights are drawn as torchvision draws them (He normal over
    fan-out for convolutions; 1 and 0 for batch norm) from `generator`, or loaded with `load_weights`. With `size`,
    larger patches are first averaged down to `size` x `size` pixels.

    Raises UserError for an unknown architecture, a size below 32, or an input of another kind.

    >>> trunk = ResNet("resnet18", generator=torch.Generator().manual_seed(0)).eval()
    >>> trunk.out_features, trunk(torch.zeros(2, 64, 64, 3, dtype=torch.uint8)).shape
    (512, torch.Size([2, 512]))
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str = "resnet18",
        *,
        generator: torch.Generator | None = None,
        size: int | None = None,
    ) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise UserError(
                f"Expected one of {', '.join(ARCHITECTURES)}, received '{architecture}'."
                + did_you_mean(architecture, ARCHITECTURES)
            )
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 32):
            raise UserError(f"Expected size as a whole number of pixels of at least 32, received {size!r}.")
        block, depths = ARCHITECTURES[architecture]
        self.architecture, self.size = architecture, size
        self.conv1 = _convolution(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(block, 64, 64, depths[0], stride=1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, depths[1], stride=2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, depths[2], stride=2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, depths[3], stride=2)
        self.out_features = 512 * block.expansion
        # Not in the state dict, so that its keys stay torchvision's.
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        _initialise(self, generator)

    def forward(self, images: Tensor) -> Tensor:
        x = self._normalised(images)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))

    def _normalised(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8 and images.ndim == 4 and images.shape[3] == 3:
            images = images.permute(0, 3, 1, 2).to(self.mean.dtype) / 255.0
        elif not (images.is_floating_point() and images.ndim == 4 and images.shape[1] == 3):
            cure = "set data.features=none" if images.ndim == 2 else "permute or convert them"
            raise UserError(
                "Expected patches as uint8 [spot, height, width, 3] or float [spot, 3, height, width] in "
                f"[0, 1], received {images.dtype} {list(images.shape)}; {cure}."
            )
        if self.size is not None and max(images.shape[2:]) > self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="area")
        return (images - self.mean) / self.std


def resnet18(*, generator: torch.Generator | None = None, size: int | None = None) -> ResNet:
    """A ResNet-18 trunk: 11.2 million parameters, 512 outputs."""
    return ResNet("resnet18", generator=generator, size=size)


def resnet50(*, generator: torch.Generator | None = None, size: int | None = None) -> ResNet:
    """A ResNet-50 trunk: 23.5 million parameters, 2048 outputs."""
    return ResNet("resnet50", generator=generator, size=size)


def load_weights(trunk: ResNet, path: str | Path) -> None:
    """Load published weights of the same architecture from `.pt`, `.pth` or `.safetensors` into `trunk`.

    Understood: a plain state dict, or one under `state_dict` / `model`, with or without a `module.` prefix. `fc.*`
    is dropped; everything else must match by name and shape. Only tensors are read, never code.

    Raises UserError when the file cannot be read or any name or shape differs; the trunk is then unchanged.
    """
    weights = {name: value for name, value in read_weights(path).items() if not name.startswith("fc.")}
    own = trunk.state_dict()
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    unknown = [name for name in weights if name not in own]
    shapes = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    problems = {"lacks": missing, "has unknown": unknown, "has other shapes for": shapes}
    for problem, names in problems.items():
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise UserError(
                f"Expected {path} to hold the weights of a {trunk.architecture} with torchvision's names, "
                f"but it {problem} {len(names)} tensors ({shown}); check the architecture, or rename its keys."
            )
    trunk.load_state_dict(weights, strict=False)


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, depth: int, *, stride: int
) -> nn.Sequential:
    outputs = width * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
    rest = [block(outputs, width, 1, None) for _ in range(depth - 1)]
    return nn.Sequential(block(inputs, width, stride, shortcut), *rest)


def _initialise(trunk: nn.Module, generator: torch.Generator | None) -> None:
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
