"""From what the user calls the features ("builtin", a folder, an encoder's name, a glob) to one file per slide."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from agl.data.reading.formats.known import Formats
from agl.errors import DataError, did_you_mean
from agl.places import expanded

BUILTIN, NONE = "builtin", "none"
_ENDINGS = ("", "_patches", "_features", "_embeddings", ".features", ".embeddings")


def locate_features(spec: str | Path, root: Path, slides: Sequence[str], formats: Formats) -> dict[str, Path]:
    """One feature file per slide; {} for "builtin" and "none".

    `spec` is a folder, a name of a folder beside the data (`<root>/<name>`, `<root>/features/<name>`,
    `<root>/features_<name>`, `<root>/embeddings/<name>`, and TRIDENT's `<root>/20x_256px_0px_overlap/features_<name>`,
    its job folder being `<root>` or in it), or a pattern: `emb/*_uni.h5`, `emb/{slide}/x.pt`.

    Raises:
        DataError: nothing found, several of TRIDENT's folders, a slide without a file, a slide with several.
    """
    if str(spec) in (BUILTIN, NONE):
        return {}
    candidates = [(path, formats.stem(path)) for path in _candidates(str(spec), root, formats)]
    found: dict[str, Path] = {}
    for slide in slides:
        ranked = [[p for p, stem in candidates if stem == slide + ending] for ending in _ENDINGS]
        own = next((paths for paths in ranked if paths), [])
        if "{slide}" in str(spec):
            own = _glob(str(spec).replace("{slide}", slide), root)
        elif "*" in str(spec) and not own:
            own = _named_by_pattern(str(spec), slide, [p for p, _ in candidates])
        if not own:
            others = ", ".join(p.name for p, _ in candidates[:4]) or "no feature files"
            raise DataError(
                f"Expected a feature file for slide '{slide}' in {spec}, received {others}; "
                f"add {slide}.h5 or leave the slide out."
            )
        if len(own) > 1:
            raise DataError(
                f"Expected one feature file for slide '{slide}', received {own[0].name} and {own[1].name}; "
                "give a pattern that picks one, such as 'folder/{slide}.h5'."
            )
        found[slide] = own[0]
    return found


def _candidates(spec: str, root: Path, formats: Formats) -> list[Path]:
    if "{slide}" in spec:
        return []
    if "*" in spec:
        paths = _glob(spec, root)
        if not paths:
            raise DataError(f"Expected feature files matching '{spec}', found none; check the pattern.")
        return paths
    places = [expanded(spec), root / spec]
    places += [root / "features" / spec, root / f"features_{spec}", root / "embeddings" / spec]
    if not any(place.is_dir() for place in places):
        places += _in_trident(spec, root)
    for place in places:
        if place.is_dir():
            inner = [place / sub for sub in ("h5_files", "pt_files") if (place / sub).is_dir()]  # CLAM
            return sorted(p for folder in (inner[:1] or [place]) for p in folder.iterdir() if formats.knows(p))
    near = {
        p.name
        for folder in (root, root / "features", root / "embeddings")
        if folder.is_dir()
        for p in folder.iterdir()
        if p.is_dir()
    }
    near |= {path.name.removeprefix("features_") for path in _trident_folders("*", root)}
    near |= {BUILTIN, NONE}
    raise DataError(
        f"Expected features as '{BUILTIN}', '{NONE}', a folder or a pattern, found no folder '{spec}' here "
        f"or in {root}.{did_you_mean(spec, near)}"
    )


def _in_trident(name: str, root: Path) -> list[Path]:
    """TRIDENT's folder of an encoder, which is below one for the magnification and the size of patches."""
    found = _trident_folders(name, root) if name and not set(name) & set("/*?[]") else []
    if len(found) > 1:
        raise DataError(
            f"Expected one folder of features '{name}' in {root}, received {found[0].relative_to(root)} and "
            f"{found[1].relative_to(root)}; give the one you mean."
        )
    return found


def _trident_folders(name: str, root: Path) -> list[Path]:
    here = [path for start in ("", "*/") for path in root.glob(f"{start}*x_*px_*px_overlap/features_{name}")]
    return sorted(path for path in here if path.is_dir())


def _glob(pattern: str, root: Path) -> list[Path]:
    here = sorted(glob(str(expanded(pattern)), recursive=True))
    return [Path(p) for p in here or sorted(glob(str(root / pattern), recursive=True)) if Path(p).is_file()]


def _named_by_pattern(pattern: str, slide: str, paths: list[Path]) -> list[Path]:
    """The files whose name, or whose folder, is the slide where the pattern has its star."""
    star = [part for part in Path(pattern).parts if "*" in part][-1]
    wanted = star.replace("*", slide, 1)
    return [p for p in paths if wanted in p.parts]
