"""Published image encoders: load one, prepare patches for it, pool its output to one vector a patch.

Weights come from a local file or folder, or from the hub by name. `timm` and `transformers` belong to the optional
extra `encoders` and are imported only here, when one is asked for; our own ResNets need neither.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agl.data.images.batches import first_size, in_batches
from agl.data.images.builtin import check_patches
from agl.data.images.encoder_cards import IMAGENET, KNOWN_ENCODERS, EncoderCard
from agl.data.images.weights import read_weights
from agl.errors import DataError, did_you_mean


def prepare(images: Tensor, card: EncoderCard) -> Tensor:
    """Patches `[patch, height, width, 3]` uint8 to model input `[patch, 3, crop, crop]` float32.

    The shorter side is resized to `card.resize` (antialiased), the centre is cropped, and the channels are
    normalised: what the models' own transforms do to a picture, on the device of `images`.

    >>> prepare(torch.zeros(2, 64, 80, 3, dtype=torch.uint8), KNOWN_ENCODERS["phikon"]).shape
    torch.Size([2, 3, 224, 224])
    """
    x = images.permute(0, 3, 1, 2).float() / 255.0
    height, width = x.shape[2:]
    shorter = min(height, width)
    if shorter != card.resize:
        size = (round(height * card.resize / shorter), round(width * card.resize / shorter))
        x = F.interpolate(x, size=size, mode=card.interpolation, antialias=True, align_corners=False)
        x = x.clamp(0.0, 1.0)  # bicubic overshoots at edges; a picture does not
    top, left = (x.shape[2] - card.crop) // 2, (x.shape[3] - card.crop) // 2
    x = x[:, :, top : top + card.crop, left : left + card.crop]
    mean, std = (torch.tensor(v, device=x.device).view(3, 1, 1) for v in card.normalisation)
    return (x - mean) / std


def pool_tokens(output: Any, card: EncoderCard) -> Tensor:
    """One vector per patch from what the model returned, as `card.pool` says.

    >>> tokens = torch.arange(12.0).view(1, 3, 4)  # class token, then two patch tokens
    >>> pool_tokens(tokens, EncoderCard("timm", "", 8, pool="class_and_mean"))
    tensor([[0., 1., 2., 3., 6., 7., 8., 9.]])
    """
    tokens = getattr(output, "last_hidden_state", output)
    if card.pool == "output":
        return tokens
    if card.pool == "class_token":
        return tokens[:, 0]
    return torch.cat([tokens[:, 0], tokens[:, 1 + card.n_registers :].mean(dim=1)], dim=1)


@dataclass
class Encoder:
    """A loaded encoder. `extract(images)` gives float32 `[patch, dim]`, whatever precision it computes in."""

    card: EncoderCard
    forward: Callable[[Tensor], Any]
    device: str
    fingerprint: str
    precision: torch.dtype | None = None  # of the matrix products; None: float32

    def extract(self, images: np.ndarray, batch_size: int | None = None) -> np.ndarray:
        """Features `[patch, dim]` (float32) of uint8 patches `[patch, height, width, 3]`.

        `batch_size` patches are worked on at one time (None: 32, on a GPU 256), fewer where a GPU has no room for them.
        """
        check_patches(images)
        parts = in_batches(
            lambda some: self._features(np.array(images[some], order="C")),
            len(images),
            first_size(self.device) if batch_size is None else batch_size,
        )
        return np.concatenate([np.empty((0, self.card.dim), np.float32), *parts])

    def _features(self, images: np.ndarray) -> np.ndarray:
        device, half = torch.device(self.device).type, self.precision
        batch = torch.from_numpy(images).to(self.device)
        with torch.inference_mode(), torch.autocast(device, dtype=half, enabled=half is not None):
            features = pool_tokens(self.forward(prepare(batch, self.card)), self.card)
        if features.ndim != 2 or features.shape[1] != self.card.dim:
            raise DataError(
                f"Expected {self.card.dim} features a patch, but the model gave {list(features.shape)}; "
                "give the weights that belong to this encoder's name."
            )
        return features.float().cpu().numpy()


def load_encoder(
    name: str,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    card: EncoderCard | None = None,
    precision: str = "auto",
) -> Encoder:
    """Load an encoder: a name of `KNOWN_ENCODERS`, a transformers folder, or whatever `card` describes.

    `weights` is a file (`.pt`, `.pth`, `.bin`, `.safetensors`) or, for transformers, the folder that
    `save_pretrained` wrote. Without it timm and transformers download from the hub (gated models need a login
    there); our own ResNets always need a file. `precision` is fp32, fp16 or bf16, which act on a GPU only, or auto:
    fp16 there. What was made in another precision has another fingerprint.

    Raises UserError for an unknown name, a missing package, a missing or unfitting file.
    """
    if card is None and weights is None and Path(name).is_dir():
        card, weights, name = folder_card(Path(name)), Path(name), Path(name).name
    if card is None and name not in KNOWN_ENCODERS:
        known = [*KNOWN_ENCODERS, "builtin"]
        raise DataError(
            f"Expected a known encoder or a folder saved by transformers, received '{name}'."
            + did_you_mean(name, known)
        )
    card = card or KNOWN_ENCODERS[name]
    path = Path(weights) if weights is not None else None
    if path is None and card.package == "agl":
        path = _packaged(card)
    if path is not None and not path.exists():
        raise DataError(f"Expected the weights of {name} at {path}, but there is nothing; check the path.")
    loaders = {"agl": _from_agl, "timm": _from_timm, "transformers": _from_transformers, "conch": _from_conch}
    model: Any = loaders[card.package](name, card, path).eval().to(device)
    calls: dict[str, Callable[[Tensor], Any]] = {
        "conch": lambda x: model.encode_image(x, proj_contrast=False, normalize=False),
        "transformers": lambda x: model(pixel_values=x),
    }
    half = half_precision(precision, device)
    mark = f"{name}:{_mark(path)}" + ("" if half is None else f":{str(half)[6:]}")
    return Encoder(card, calls.get(card.package, model), device, mark, half)


def half_precision(name: str, device: str) -> torch.dtype | None:
    """The type that a GPU multiplies matrices in; None is float32, and what a CPU has whatever is asked for.

    >>> half_precision("auto", "cuda"), half_precision("fp16", "cpu")
    (torch.float16, None)
    """
    known = {"auto": torch.float16, "fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
    if name not in known:
        raise DataError(f"Expected a precision, received '{name}'.{did_you_mean(name, known)}")
    return None if torch.device(device).type == "cpu" else known[name]


def folder_card(folder: Path) -> EncoderCard:
    """The card of a transformers folder of an image model: width and input size from its `config.json`,
    normalisation from its `preprocessor_config.json` (ImageNet's without one), class token as the feature."""
    try:
        config = json.loads((folder / "config.json").read_text())
        path = folder / "preprocessor_config.json"
        preparation = json.loads(path.read_text()) if path.is_file() else {}
        size = int(config.get("image_size", 224))
        mean, std = (preparation.get(f"image_{what}", IMAGENET[i]) for i, what in enumerate(("mean", "std")))
        return EncoderCard(
            "transformers",
            "",
            int(config["hidden_size"]),
            size,
            size,
            normalisation=(tuple(mean), tuple(std)),
            pool="class_token",
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"Expected {folder} to be a folder of an image model saved by transformers (config.json with "
            f"hidden_size), but: {error}; give a known encoder's name and weights= instead."
        ) from error


def _mark(path: Path | None) -> str:
    """Something that changes when the weights do: size and time of every file."""
    if path is None:
        return "hub"
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    text = "|".join(f"{f.name}:{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in files if f.is_file())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _package(package: str, name: str) -> Any:
    try:
        return importlib.import_module(package)
    except Exception as error:  # torchvision built for another torch fails with RuntimeError, not ImportError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = "pip install 'agl[encoders]'" if package != "conch.open_clip_custom" else "install CONCH's package"
        raise DataError(
            f"Expected the package {package.split('.')[0]} for the encoder '{name}', but importing it failed "
            f"({reason}); {where}, or compute the features elsewhere and give their folder."
        ) from error


class _Denormalised(nn.Module):
    """Our trunks normalise by themselves: hand them the channels that `prepare` normalised back in [0, 1]."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        trunk: Any = self.trunk
        return trunk(x * trunk.std + trunk.mean)


def _from_agl(name: str, card: EncoderCard, path: Path | None) -> nn.Module:
    if path is None:
        raise DataError(f"Expected a weights file for {name} (torchvision's names), received none; give weights=.")
    home, attribute = _home(card)
    trunk = getattr(home, attribute)()
    home.load_weights(trunk, path)
    return _Denormalised(trunk)


def _home(card: EncoderCard) -> tuple[Any, str]:
    """The module of one of our own, found as every component is: models come after data in the order of the rooms."""
    module, _, attribute = card.architecture.partition(":")
    return importlib.import_module(module), attribute


def _packaged(card: EncoderCard) -> Path | None:
    """The weights that an installed package brings for one of our own; None where none does."""
    found = getattr(_home(card)[0], "packaged_weights", None)
    return None if found is None else Path(found())


def _resolved(options: dict[str, Any]) -> dict[str, Any]:
    """Options with "module:name" replaced by the object it names."""

    def found(value: Any) -> Any:
        if not (isinstance(value, str) and ":" in value):
            return value
        module, _, attribute = value.partition(":")
        return getattr(importlib.import_module(module), attribute)

    return {key: found(value) for key, value in options.items()}


def _from_timm(name: str, card: EncoderCard, path: Path | None) -> nn.Module:
    timm = _package("timm", name)
    options = _resolved(card.options)
    if path is None:
        return _loaded(name, lambda: timm.create_model(f"hf-hub:{card.hub_id}", pretrained=True, **options))
    model = timm.create_model(card.architecture, pretrained=False, **options)
    weights = read_weights(path)
    return _loaded(name, lambda: (model.load_state_dict(weights, strict=True), model)[1])


def _from_transformers(name: str, card: EncoderCard, path: Path | None) -> nn.Module:
    transformers = _package("transformers", name)
    source = str(path if path is None or path.is_dir() else path.parent) if path is not None else card.hub_id
    return _loaded(name, lambda: transformers.AutoModel.from_pretrained(source, local_files_only=path is not None))


def _from_conch(name: str, card: EncoderCard, path: Path | None) -> nn.Module:
    conch = _package("conch.open_clip_custom", name)
    checkpoint = str(path) if path is not None else f"hf_hub:{card.hub_id}"
    return _loaded(name, lambda: conch.create_model_from_pretrained(card.architecture, checkpoint_path=checkpoint)[0])


def _loaded(name: str, load: Callable[[], nn.Module]) -> nn.Module:
    try:
        return load()
    except Exception as error:  # every library and the network have their own; the user needs the one sentence
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"Expected to load the encoder '{name}', but: {reason}; check the weights, or the login and the "
            "connection when none are given."
        ) from error
