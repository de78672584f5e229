"""The table of published image encoders: what to load, how to prepare patches, how to pool the output.

Each row states what the model's card states. Models whose code would have to be downloaded and run
(`trust_remote_code`) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)
OPENAI_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
BIOPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))


@dataclass(frozen=True)
class EncoderCard:
    """One encoder. `pool`: how tokens become one vector: "output" (the model already gives one), "class_token", or
    "class_and_mean" (class token beside the mean of the patch tokens, after `n_registers` register tokens)."""

    package: str  # "timm", "transformers", "conch" or "agl"
    hub_id: str
    dim: int
    resize: int = 224
    crop: int = 224
    interpolation: str = "bilinear"
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    pool: str = "output"
    n_registers: int = 0
    architecture: str = ""  # timm's name, needed to load a local file; for our own, where it lives
    options: dict[str, Any] = field(default_factory=dict)


_VIT = {"init_values": 1e-5, "num_classes": 0, "dynamic_img_size": True}
# The names of classes in timm, looked up when timm is there.
_SWIGLU = {"mlp_layer": "timm.layers:SwiGLUPacked", "act_layer": "torch.nn:SiLU"}

KNOWN_ENCODERS: dict[str, EncoderCard] = {
    "resnet18": EncoderCard("agl", "", 512, architecture="agl.models.resnet:resnet18"),
    "resnet50": EncoderCard("agl", "", 2048, architecture="agl.models.resnet:resnet50"),
    "efficientnet_lite0": EncoderCard(
        "agl",
        "",
        1280,
        interpolation="bicubic",
        normalisation=LITE,
        architecture="agl.models.efficientnet:EfficientNetLite0",
    ),
    "uni": EncoderCard(
        "timm", "MahmoodLab/UNI", 1024, architecture="vit_large_patch16_224", options={"img_size": 224, **_VIT}
    ),
    "uni2": EncoderCard(
        "timm",
        "MahmoodLab/UNI2-h",
        1536,
        architecture="vit_giant_patch14_224",
        options={
            **_VIT,
            **_SWIGLU,
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
        },
    ),
    "conch": EncoderCard(
        "conch", "MahmoodLab/conch", 512, 448, 448, "bicubic", OPENAI_CLIP, architecture="conch_ViT-B-16"
    ),
    "virchow": EncoderCard(
        "timm",
        "paige-ai/Virchow",
        2560,
        interpolation="bicubic",
        pool="class_and_mean",
        architecture="vit_huge_patch14_224",
        options={
            **_SWIGLU,
            "img_size": 224,
            "init_values": 1e-5,
            "num_classes": 0,
            "mlp_ratio": 5.3375,
            "global_pool": "",
            "dynamic_img_size": True,
        },
    ),
    "virchow2": EncoderCard(
        "timm",
        "paige-ai/Virchow2",
        2560,
        interpolation="bicubic",
        pool="class_and_mean",
        n_registers=4,
        architecture="vit_huge_patch14_224",
        options={
            **_SWIGLU,
            "img_size": 224,
            "init_values": 1e-5,
            "num_classes": 0,
            "reg_tokens": 4,
            "mlp_ratio": 5.3375,
            "global_pool": "",
            "dynamic_img_size": True,
        },
    ),
    "h-optimus-0": EncoderCard(
        "timm",
        "bioptimus/H-optimus-0",
        1536,
        normalisation=BIOPTIMUS,
        architecture="vit_giant_patch14_reg4_dinov2",
        options={"img_size": 224, "init_values": 1e-5, "num_classes": 0, "global_pool": "token"},
    ),
    "h-optimus-1": EncoderCard(
        "timm",
        "bioptimus/H-optimus-1",
        1536,
        normalisation=BIOPTIMUS,
        architecture="vit_giant_patch14_reg4_dinov2",
        options={"img_size": 224, "init_values": 1e-5, "num_classes": 0, "global_pool": "token"},
    ),
    "gigapath": EncoderCard(
        "timm",
        "prov-gigapath/prov-gigapath",
        1536,
        resize=256,
        interpolation="bicubic",
        architecture="vit_giant_patch14_dinov2",
        options={
            "img_size": 224,
            "in_chans": 3,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
            "num_classes": 0,
        },
    ),
    "phikon": EncoderCard("transformers", "owkin/phikon", 768, pool="class_token"),
    "phikon-v2": EncoderCard("transformers", "owkin/phikon-v2", 1024, pool="class_token"),
}
