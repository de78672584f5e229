"""The image trunk against torchvision's published table of names and an independent functional forward."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from agl.errors import UserError
from agl.models.resnet import IMAGENET_MEAN, IMAGENET_STD, ResNet, load_weights, resnet18, resnet50


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def torchvision_table(convolutions: tuple[int, ...], depths: tuple[int, ...], expansion: int) -> list[tuple]:
    """Names and shapes as torchvision lists them, from kernel sizes per block and blocks per stage."""

    def norm(prefix: str, width: int) -> list[tuple]:
        return [(f"{prefix}.weight", (width,)), (f"{prefix}.bias", (width,))]

    rows: list[tuple] = [("conv1.weight", (64, 3, 7, 7)), *norm("bn1", 64)]
    inputs = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for index in range(depth):
            block, channels = f"layer{stage + 1}.{index}", inputs
            for number, size in enumerate(convolutions, start=1):
                outputs = width * expansion if number == len(convolutions) else width
                rows.append((f"{block}.conv{number}.weight", (outputs, channels, size, size)))
                rows += norm(f"{block}.bn{number}", outputs)
                channels = outputs
            if index == 0 and (stage > 0 or expansion > 1):
                rows.append((f"{block}.downsample.0.weight", (width * expansion, inputs, 1, 1)))
                rows += norm(f"{block}.downsample.1", width * expansion)
            inputs = width * expansion
    return rows


@pytest.mark.parametrize(
    ("architecture", "convolutions", "depths", "expansion", "total"),
    [
        # torchvision documents 11,689,512 and 25,557,032 with fc; fc holds 512*1000+1000 and 2048*1000+1000.
        ("resnet18", (3, 3), (2, 2, 2, 2), 1, 11_176_512),
        ("resnet50", (1, 3, 1), (3, 4, 6, 3), 4, 23_508_032),
    ],
)
def test_parameter_names_order_and_shapes_are_torchvisions(
    architecture: str, convolutions: tuple, depths: tuple, expansion: int, total: int
) -> None:
    trunk = ResNet(architecture, generator=generator())
    rows = [(name, tuple(value.shape)) for name, value in trunk.named_parameters()]
    assert rows == torchvision_table(convolutions, depths, expansion)
    assert sum(value.numel() for value in trunk.parameters()) == total
    buffers = {name.rsplit(".", 1)[1] for name in trunk.state_dict()} - {"weight", "bias"}
    assert buffers == {"running_mean", "running_var", "num_batches_tracked"}


def test_a_few_names_written_out() -> None:
    names = list(resnet18(generator=generator()).state_dict())
    assert names[:8] == [
        "conv1.weight",
        "bn1.weight",
        "bn1.bias",
        "bn1.running_mean",
        "bn1.running_var",
        "bn1.num_batches_tracked",
        "layer1.0.conv1.weight",
        "layer1.0.bn1.weight",
    ]
    assert names[-1] == "layer4.1.bn2.num_batches_tracked"
    assert "layer2.0.downsample.0.weight" in names
    assert "layer1.0.downsample.0.weight" not in names
    assert "layer1.0.downsample.0.weight" in resnet50(generator=generator()).state_dict()


def reference(images: torch.Tensor, w: dict[str, torch.Tensor], n_convolutions: int) -> torch.Tensor:
    """The same network as a plain function of a state dict: explicit batch-norm arithmetic, no modules."""

    def norm(x: torch.Tensor, p: str) -> torch.Tensor:
        shape = (1, -1, 1, 1)
        scaled = (x - w[f"{p}.running_mean"].view(shape)) / (w[f"{p}.running_var"].view(shape) + 1e-5).sqrt()
        return scaled * w[f"{p}.weight"].view(shape) + w[f"{p}.bias"].view(shape)

    x = images.permute(0, 3, 1, 2).double() / 255
    mean, std = (torch.tensor(v).double().view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    x = (x - mean) / std
    x = norm(F.conv2d(x, w["conv1.weight"], stride=2, padding=3), "bn1").clamp(min=0)
    x = F.max_pool2d(x, 3, 2, 1)
    blocks = sorted({tuple(name.split(".")[:2]) for name in w if name.startswith("layer")})
    for stage, index in blocks:
        p = f"{stage}.{index}"
        stride = 2 if index == "0" and stage != "layer1" else 1
        strided = 1 if n_convolutions == 2 else 2  # the 3x3 one carries the stride
        y = x
        for number in range(1, n_convolutions + 1):
            kernel = w[f"{p}.conv{number}.weight"]
            step = stride if number == strided else 1
            y = norm(F.conv2d(y, kernel, stride=step, padding=kernel.shape[-1] // 2), f"{p}.bn{number}")
            if number < n_convolutions:
                y = y.clamp(min=0)
        if f"{p}.downsample.0.weight" in w:
            x = norm(F.conv2d(x, w[f"{p}.downsample.0.weight"], stride=stride), f"{p}.downsample.1")
        x = (x + y).clamp(min=0)
    return x.flatten(2).mean(-1)


@pytest.mark.parametrize(("architecture", "n_convolutions"), [("resnet18", 2), ("resnet50", 3)])
def test_forward_is_the_functional_reference(architecture: str, n_convolutions: int) -> None:
    trunk = ResNet(architecture, generator=generator()).double().eval()
    for name, value in trunk.state_dict().items():  # batch norms that do something
        if "running" in name or (".bn" in f".{name}" and "num" not in name):
            value.copy_(torch.rand(value.shape, generator=generator(len(name)), dtype=torch.float64) + 0.5)
    images = torch.randint(0, 256, (2, 40, 56, 3), generator=generator(), dtype=torch.uint8)
    expected = reference(images, trunk.state_dict(), n_convolutions)
    torch.testing.assert_close(trunk(images), expected, rtol=1e-10, atol=1e-10)
    as_float = images.permute(0, 3, 1, 2).double() / 255
    torch.testing.assert_close(trunk(as_float), expected, rtol=1e-10, atol=1e-10)


def test_weights_are_he_normal_over_fan_out_and_follow_the_generator() -> None:
    state = torch.random.get_rng_state()  # the global generator must stay untouched
    first = resnet18(generator=generator(1))
    assert torch.equal(torch.random.get_rng_state(), state)
    again, other = resnet18(generator=generator(1)), resnet18(generator=generator(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
    kernel = first.get_parameter("layer4.1.conv2.weight")  # 2.4 million draws: their spread is known to 0.1 %
    assert kernel.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=5e-3)
    assert first.bn1.weight.eq(1).all()
    assert first.bn1.bias.eq(0).all()


@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors"])
def test_published_weights_load_without_their_classifier(tmp_path: Path, suffix: str) -> None:
    source = resnet18(generator=generator(3))
    weights = dict(source.state_dict()) | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    path = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        from safetensors.torch import save_file

        save_file(weights, path)
    elif suffix == "pth":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, path)
    else:
        # Older files have no num_batches_tracked.
        torch.save({k: v for k, v in weights.items() if "num_batches" not in k}, path)
    loaded = resnet18(generator=generator(4))
    load_weights(loaded, path)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), source.parameters(), strict=True))


def test_wrong_weights_are_refused_and_change_nothing(tmp_path: Path) -> None:
    trunk = resnet18(generator=generator(5))
    before = [value.clone() for value in trunk.state_dict().values()]
    good = dict(trunk.state_dict())

    def save(content: object) -> Path:
        path = tmp_path / "weights.pt"
        torch.save(content, path)
        return path

    with pytest.raises(UserError, match=r"lacks 1 tensors \(conv1.weight\)"):
        load_weights(trunk, save({k: v + 1 for k, v in good.items() if k != "conv1.weight"}))
    with pytest.raises(UserError, match=r"has unknown 1 tensors \(head.weight\)"):
        load_weights(trunk, save({k: v + 1 for k, v in good.items()} | {"head.weight": torch.zeros(1)}))
    with pytest.raises(UserError, match="has other shapes for 1 tensors"):
        load_weights(trunk, save(good | {"conv1.weight": torch.zeros(64, 3, 3, 3)}))
    with pytest.raises(UserError, match=r"resnet18.*check the architecture"):
        load_weights(trunk, save(resnet50(generator=generator()).state_dict()))
    with pytest.raises(UserError, match="save model"):
        load_weights(trunk, save([1, 2]))
    with pytest.raises(UserError, match="tensors only"):
        load_weights(trunk, save(trunk))  # a pickled module: would run code
    with pytest.raises(UserError, match="does not exist"):
        load_weights(trunk, tmp_path / "nowhere.pt")
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(UserError, match="reading it failed"):
        load_weights(trunk, tmp_path / "torn.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(before, trunk.state_dict().values(), strict=True))


def test_wrong_inputs_are_refused() -> None:
    trunk = resnet18(generator=generator())
    channels_first = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    for images in (channels_first, torch.zeros(2, 32, 32, 3), torch.zeros(3, 32, 32)):
        with pytest.raises(UserError, match="permute or convert"):
            trunk(images)
    with pytest.raises(UserError, match=r"received torch\.float32 \[2, 72\]; set data\.features=none"):
        trunk(torch.zeros(2, 72))  # a table of features
    with pytest.raises(UserError, match="Did you mean 'resnet18'"):
        ResNet("resnet-18")


def test_gradients_reach_every_parameter() -> None:
    trunk = resnet18(generator=generator())
    trunk(torch.rand(2, 3, 64, 64, generator=generator())).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trunk.parameters())


@pytest.mark.parametrize("side", [64, 48])
def test_patches_are_averaged_down_to_the_size(side: int) -> None:
    small = ResNet("resnet18", generator=generator(6), size=32).eval()
    plain = ResNet("resnet18", generator=generator(6)).eval()
    images = torch.rand(2, 3, side, side, generator=generator(7))
    averaged = F.adaptive_avg_pool2d(images, 32)
    if side == 64:  # the mean of every 2 x 2 pixels
        torch.testing.assert_close(averaged, images.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)))
    torch.testing.assert_close(small(images), plain(averaged))
    assert list(small.state_dict()) == list(plain.state_dict())
    assert torch.equal(small(averaged), plain(averaged))  # what is no larger stays as it is


@pytest.mark.parametrize("size", [31, 32.0, True, "64"])
def test_a_wrong_size_is_told(size: object) -> None:
    with pytest.raises(UserError, match="whole number of pixels of at least 32"):
        ResNet("resnet18", size=size)
