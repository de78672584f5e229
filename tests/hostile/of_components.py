"""Every place where a component may stand, with names that are none; and every argument, with values it cannot take."""

from __future__ import annotations

from collections.abc import Iterator

from agl import registry
from agl.arguments import settable
from agl.builtins import WHERE
from tests.hostile.kinds import VALUES, WORDS, write_modules
from tests.hostile.stage import NETWORK, QUICK, Case

# Where a component of each kind stands in the config.
SLOTS = {
    "loss": "loss",
    "model": "model",
    "primary": "primary",
    "auxiliary.genes": "gene_set",
    "auxiliary.genes.prior": "prior",
    "auxiliary.objective": "objective",
    "auxiliary.merge": "merge",
    "auxiliary.outer.engine": "engine",
    "split": "split",
    "training.sampler": "sampler",
    "training.augment": "augment",
    "plugins": "plugin",
    "data.formats": "format",
}
MANY = ("plugins", "data.formats")
# Arguments are tried where they stand: the kind, the key, and what makes a quick run use it.
USED = {
    "loss": ("loss", ()),
    "model": ("model", ()),
    "estimator": ("model", ()),
    "primary": ("primary", ()),
    "prior": ("auxiliary.genes.prior", ("auxiliary.genes=top",)),
    "gene_set": ("auxiliary.genes", ()),
    "selector": ("auxiliary.genes", ("auxiliary.outer.start=0", "auxiliary.outer.every=1")),
    "merge": ("auxiliary.merge", ("auxiliary.genes=all",)),
    "split": ("split", ()),
    "sampler": ("training.sampler", ()),
    "engine": ("auxiliary.outer.engine", ("auxiliary.genes=dkgsb", "auxiliary.outer.start=0")),
}
TRIED = ("a word", "a negative number", "a huge number", "not a number", "a list", "nothing")
SLOW = {("model", "resnet18"), ("model", "resnet50"), ("model", "nsl")}  # of patches, which the stage has none of


def cases() -> Iterator[Case]:
    """Names first, then arguments."""
    for key in SLOTS:
        for kind, word in WORDS.items():
            fine = kind == "a mapping without a name"  # arguments of the default
            value = f"[{word}]" if key in MANY and kind != "nothing" else word
            words = ("train", *_without(NETWORK, key), *_beside(key), f"{key}={value}")
            yield Case("component", f"{key} is {kind}", words, write_modules, fine=fine)
    yield from _arguments()


def _arguments() -> Iterator[Case]:
    for kind, (key, beside) in USED.items():
        for name in WHERE[kind]:
            if (kind, name) in SLOW:
                continue
            for argument in settable(kind, registry.find(kind, name)):
                for value in TRIED:
                    base = QUICK if kind == "estimator" else NETWORK
                    words = (
                        "train",
                        *_without(base, key),
                        *beside,
                        f"{key}={name}",
                        f"{key}.{argument}={VALUES[value]}",
                    )
                    yield Case("argument", f"{argument} of {kind} {name} is {value}", words, fine=True)


def _without(words: tuple[str, ...], key: str) -> tuple[str, ...]:
    return tuple(word for word in words if word.partition("=")[0] != key and not word.startswith(f"{key}."))


def _beside(key: str) -> tuple[str, ...]:
    if key == "auxiliary.genes.prior":
        return ("auxiliary.genes=top",)
    if key == "auxiliary.outer.engine":
        return ("auxiliary.genes=dkgsb", "auxiliary.outer.start=0")
    return ()
