"""From what the user names to the files of one slide: a section of a folder, or one of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agl.data.reading.formats.known import Formats
from agl.data.reading.locate import BUILTIN, locate_features
from agl.data.reading.sections import LAYOUTS
from agl.errors import ModelError, UserError
from agl.places import expanded
from agl.prediction.recipe import Recipe


@dataclass(frozen=True)
class SlideFiles:
    """Where a slide's parts lie; `features` by the encoder's name, None for one that is computed from the patches."""

    name: str
    h5ad: Path | None
    patches: Path | None
    features: Mapping[str, Path | None]


def locate_slide(
    source: str | Path, recipe: Recipe, formats: Formats, *, root: Path | None = None, features: Sequence[str] = ()
) -> SlideFiles:
    """The files of a slide.

    Args:
        source: an h5ad, a file of features or of patches, a folder with one section, or, with `root`, a section's name.
        features: where the model's encoders' features are, in its order: a file, a folder, or `locate_features`' words.
    """
    path = expanded(source)
    if root is not None:
        name, given, home = str(source), None, expanded(root)
        if not home.is_dir():
            raise ModelError(f"Expected the folder of the section at {home}, found none. Check --root.")
    elif path.is_dir():
        name, given, home = _only_section(path), None, path
    elif path.is_file():
        home = path.parent.parent if path.parent.name in ("adata", "st", "patches") else path.parent
        name, given = formats.stem(path) if formats.knows(path) else path.stem, path
    else:
        raise ModelError(f"Expected a slide's h5ad, feature file, patch file or folder at {source}, found nothing.")
    h5ad = given if given is not None and given.suffix == ".h5ad" else _h5ad(home, name)
    patches = home / "patches" / f"{name}.h5"
    found = SlideFiles(name, h5ad, patches if patches.is_file() else None, {})
    if given is not None and given != h5ad:
        if not recipe.encoders or recipe.names == (BUILTIN,):
            return SlideFiles(name, h5ad, given, dict.fromkeys(recipe.names))
        if not features and len(recipe.names) == 1:
            return SlideFiles(name, h5ad, found.patches, {recipe.names[0]: given})
    return SlideFiles(name, h5ad, found.patches, _features(found, recipe, formats, home, features))


def _features(
    slide: SlideFiles, recipe: Recipe, formats: Formats, home: Path, given: Sequence[str]
) -> dict[str, Path | None]:
    """Each encoder's file, or None where it is computed."""
    if given and len(given) != len(recipe.names):
        raise ModelError(
            f"Expected --features once for each of the model's encoders ({', '.join(recipe.names)}), received "
            f"{len(given)}. Give them in this order."
        )
    found: dict[str, Path | None] = {}
    for name, words in zip(recipe.names, given or recipe.names, strict=True):
        if words == BUILTIN:
            found[name] = None
        elif given and expanded(words).is_file():
            found[name] = expanded(words)
        else:
            found[name] = _located(words, home, slide.name, formats)
    return found


def _located(words: str, home: Path, slide: str, formats: Formats) -> Path:
    """The file of one encoder: in the slide's own folder under the name that it has there, else where words point."""
    here = [Path(words).name] if Path(words).is_absolute() else []
    for each in here:
        try:
            return locate_features(each, home, [slide], formats)[slide]
        except UserError:
            continue  # then as it is written
    try:
        return locate_features(words, home, [slide], formats)[slide]
    except UserError as error:
        raise ModelError(
            f"Expected features of slide {slide!r} by the encoder {words!r}, which the model was trained on; found "
            f"none: {error} Or say where they are with --features."
        ) from None


def _h5ad(home: Path, name: str) -> Path | None:
    return next((file for layout in LAYOUTS if (file := home / layout / f"{name}.h5ad").is_file()), None)


def _only_section(folder: Path) -> str:
    names = sorted({file.stem for layout in (*LAYOUTS, "patches") for file in (folder / layout).glob("*.h5*")})
    if len(names) != 1:
        raise ModelError(
            f"Expected a folder with one section, {folder} has {len(names)} ({', '.join(names[:4]) or 'none'}). "
            f"Name one: SECTION --root {folder}."
        )
    return names[0]
