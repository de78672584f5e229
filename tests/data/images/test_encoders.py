"""Encoders: their transforms against plain loops, our ResNet end to end, transformers when it is installed."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agl.data.images.encoder_cards import IMAGENET, KNOWN_ENCODERS, EncoderCard
from agl.data.images.encoders import Encoder, half_precision, load_encoder, pool_tokens, prepare
from agl.data.images.folder import extract_folder
from agl.data.simulate.task import simulate
from agl.errors import DataError, UserError
from agl.models.resnet import resnet18


def patches(n: int = 3, height: int = 48, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def saved_resnet(path: Path) -> torch.nn.Module:
    trunk = resnet18(generator=torch.Generator().manual_seed(0)).eval()
    torch.save(trunk.state_dict(), path)
    return trunk


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(112, 112), (300, 260)])
def test_preparation_is_pillows_resize_and_crop(mode: str, height: int, width: int) -> None:
    smooth = np.cumsum(np.cumsum(patches(1, height, width).astype(float), axis=1), axis=2)
    picture = (smooth / smooth.max() * 255).astype(np.uint8)
    card = EncoderCard("agl", "", 1, resize=64, crop=56, interpolation=mode)
    resample = Image.Resampling.BILINEAR if mode == "bilinear" else Image.Resampling.BICUBIC
    scale = 64 / min(height, width)
    resized = Image.fromarray(picture[0]).resize((round(width * scale), round(height * scale)), resample)
    top, left = (resized.height - 56) // 2, (resized.width - 56) // 2
    cropped = np.asarray(resized, float)[top : top + 56, left : left + 56] / 255
    expected = (cropped - IMAGENET[0]) / IMAGENET[1]
    ours = prepare(torch.from_numpy(picture), card)[0].permute(1, 2, 0).numpy()
    # Pillow rounds to 8 bits after each of its two passes: one grey level, divided by the smallest std.
    assert np.abs(ours - expected).max() < 1.6 / 255 / 0.224


def test_no_resize_means_the_pixels_themselves() -> None:
    card = EncoderCard("agl", "", 1, resize=48, crop=32, normalisation=((0, 0, 0), (1, 1, 1)))
    images = patches()
    expected = images[:, 8:40, 8:40].transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_allclose(prepare(torch.from_numpy(images), card), expected, atol=1e-7)


def test_pooling_by_hand() -> None:
    tokens = torch.tensor([[[1.0], [10.0], [20.0], [2.0], [4.0]]])  # class, two registers, two patches
    card = EncoderCard("timm", "", 2, pool="class_and_mean", n_registers=2)
    assert pool_tokens(tokens, card).tolist() == [[1.0, 3.0]]
    assert pool_tokens(tokens, replace(card, pool="class_token")).tolist() == [[1.0]]
    assert pool_tokens(tokens[:, 0], replace(card, pool="output")).tolist() == [[1.0]]


def test_our_resnet_gives_what_the_trunk_gives(tmp_path: Path) -> None:
    trunk = saved_resnet(tmp_path / "weights.pt")
    encoder = load_encoder("resnet18", weights=tmp_path / "weights.pt")
    images = patches(5, 224, 224)
    with torch.no_grad():
        expected = trunk(torch.from_numpy(images)).numpy()
    features = encoder.extract(images, batch_size=2)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)
    assert encoder.extract(images[:0]).shape == (0, 512)


def test_a_gpu_without_room_gets_smaller_batches() -> None:
    """Patch i is described by i; more than three at one time do not fit."""
    seen = []

    def forward(pictures: torch.Tensor) -> torch.Tensor:
        seen.append(len(pictures))
        if len(pictures) > 3:
            raise torch.OutOfMemoryError
        return pictures.mean((1, 2, 3), keepdim=False)[:, None]

    encoder = Encoder(replace(KNOWN_ENCODERS["resnet18"], dim=1), forward, "cpu", "mine")
    images = patches(20, 32, 32)
    found = encoder.extract(images, batch_size=16)
    assert seen == [16, 8, 4, 2, *[2] * 9]
    np.testing.assert_array_equal(found, np.concatenate([encoder.extract(images[i : i + 2]) for i in range(0, 20, 2)]))


def test_a_gpu_without_room_for_one_patch() -> None:
    def forward(pictures: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    encoder = Encoder(KNOWN_ENCODERS["resnet18"], forward, "cpu", "mine")
    with pytest.raises(DataError, match="its memory ran out; stop what else uses it"):
        encoder.extract(patches(2, 32, 32))


@pytest.mark.parametrize(("name", "device", "expected"), [
    ("auto", "cuda:1", torch.float16), ("fp32", "cuda", None), ("bf16", "cuda", torch.bfloat16), ("auto", "cpu", None),
])  # fmt: skip
def test_precision_is_that_of_a_gpu(name: str, device: str, expected: torch.dtype | None) -> None:
    assert half_precision(name, device) == expected


def test_another_precision_makes_other_features(tmp_path: Path) -> None:
    """Half precision is asked for where it acts, and leaves a mark on what it made."""
    saved_resnet(tmp_path / "weights.pt")
    full = load_encoder("resnet18", weights=tmp_path / "weights.pt")
    half = replace(full, precision=torch.bfloat16)
    images = patches(3, 224, 224)
    a, b = full.extract(images), half.extract(images)
    assert b.dtype == np.float32
    assert 0 < np.abs(a - b).max() < 0.05 * np.abs(a).max()
    with pytest.raises(DataError, match=r"Expected a precision, received 'fp61'. Did you mean 'fp16'\?"):
        load_encoder("resnet18", weights=tmp_path / "weights.pt", precision="fp61")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(tmp_path: Path) -> None:
    saved_resnet(tmp_path / "weights.pt")
    here, there = (load_encoder("resnet18", weights=tmp_path / "weights.pt", device=d) for d in ("cpu", "cuda"))
    images = patches(5, 224, 224)
    np.testing.assert_allclose(there.extract(images), here.extract(images), rtol=0.05, atol=0.02)
    assert there.fingerprint == here.fingerprint + ":float16"


def test_folder_of_sections_with_our_resnet(tmp_path: Path) -> None:
    saved_resnet(tmp_path / "weights.pt")
    root = simulate(tmp_path / "task", n_patients=1, spots_per_slide=4, n_genes=60, patch_size=16)
    folder = extract_folder(root, encoder="resnet18", weights=tmp_path / "weights.pt")
    assert folder == root / "embeddings" / "resnet18"
    assert [path.name for path in folder.iterdir()] == ["P1S1.h5"]


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("timm", "transformers", "conch", "conch.open_clip_custom"):
        monkeypatch.setitem(sys.modules, package, None)  # what import sees of a package that is not there
    for name in ("uni", "phikon", "conch"):
        with pytest.raises(UserError, match=rf"for the encoder '{name}'.*(agl\[encoders\]|CONCH).*give their folder"):
            load_encoder(name)


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'resnet18'"):
        load_encoder("resnet-18")
    with pytest.raises(UserError, match="give weights="):
        load_encoder("resnet18")
    with pytest.raises(UserError, match="there is nothing; check the path"):
        load_encoder("uni", weights=tmp_path / "uni.bin")
    with pytest.raises(UserError, match=r"config\.json.*give a known encoder's name"):
        load_encoder(str(tmp_path))
    saved_resnet(tmp_path / "weights.pt")
    narrow = replace(KNOWN_ENCODERS["resnet18"], dim=100)
    with pytest.raises(UserError, match=r"Expected 100 features a patch.*\[1, 512\]"):
        load_encoder("resnet18", weights=tmp_path / "weights.pt", card=narrow).extract(patches(1))


def test_every_card_is_consistent() -> None:
    for name, card in KNOWN_ENCODERS.items():
        assert card.package in ("agl", "timm", "transformers", "conch"), name
        assert card.pool in ("output", "class_token", "class_and_mean"), name
        assert card.crop <= card.resize, name
        assert all(0 < std < 1 for std in card.normalisation[1]), name
        assert card.hub_id.count("/") == (card.package != "agl"), name


def test_a_transformers_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8
    )
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path / "tiny-vit")
    encoder = load_encoder(str(tmp_path / "tiny-vit"))
    images = patches(3, 32, 32)
    mean, std = (np.array(v) for v in IMAGENET)
    pixels = torch.from_numpy((images / 255.0 - mean) / std).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = model(pixel_values=pixels).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(encoder.extract(images, batch_size=2), expected, rtol=1e-4, atol=1e-5)
    named = replace(KNOWN_ENCODERS["phikon"], dim=24, resize=32, crop=32)
    again = load_encoder("phikon", weights=tmp_path / "tiny-vit", card=named)
    np.testing.assert_allclose(again.extract(images), expected, rtol=1e-4, atol=1e-5)
