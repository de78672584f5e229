"""Many sources into one folder: what is finished is kept, and a section that fails leaves the others whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from agl.errors import UserError
from agl.leftovers import sweep
from agl.places import expanded, safe_path, unwritable
from agl.preparing.patients import patients_of
from agl.preparing.section import Asked, Found
from agl.preparing.sources.known import recognise
from agl.preparing.table import write_table
from agl.preparing.trident import parse, write_coordinates
from agl.preparing.writing import Settings, give_patient, mark_of, read_record, write_section

if TYPE_CHECKING:
    from rich.progress import Progress


@dataclass(frozen=True)
class Prepared:
    """What became of the sources.

    Attributes:
        folder: where the sections are.
        table: `sections.csv`, one row a section of the folder.
        remarks: section -> sentences about what was left out or is doubtful.
        failed: section -> why it could not be prepared.
        kept: sections that were finished before.
    """

    folder: Path
    table: pd.DataFrame
    remarks: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()

    def __repr__(self) -> str:
        said = [f"{name}: {remark}" for name, remarks in self.remarks.items() for remark in remarks]
        said += [f"{name} failed: {why}" for name, why in self.failed.items()]
        return "\n".join([f"<Prepared {self.folder}>", self.table.to_string(index=False), *said])


def prepare_sections(
    sources: Sequence[str | Path],
    out: str | Path,
    settings: Settings,
    *,
    image: str | Path | None = None,
    alignment: str | Path | None = None,
    patient: str | Path | Mapping[str, str] | None = None,
    workers: int = 1,
    trident: str | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Write `adata/`, `patches/`, `thumbnails/`, `checks/` and `sections.csv` for the sections of all sources.

    Args:
        image: the full-resolution image of the only section, or a path with {section} for several.
        patient: see `patients_of`; where none is given, what was known before stays.
        workers: threads that cut patches.
        trident: magnification and px of an encoder, "20x_256px": also write coordinates for TRIDENT.

    Raises:
        UserError: a source that is not known, two sections of one name, settings that cannot be; an h5ad in the way
            that was not written here.
    """
    _check(settings, workers)
    encoder = None if trident is None else parse(trident)
    found = [section for source in sources for section in recognise(Path(source))]
    _check_names(found)
    if image is not None and len(found) > 1 and "{section}" not in str(image):
        raise UserError(
            f"Expected one section with one image, received {len(found)} sections; write --image as a path with "
            "{section} in it, such as images/{section}.tif."
        )
    root = expanded(safe_path(str(out), "--out"))
    patients = patients_of([section.name for section in found], patient)
    (root / "adata").mkdir(parents=True, exist_ok=True)
    for folder in ("adata", "patches", "thumbnails", "checks"):
        sweep(root / folder, ".*")
    remarks: dict[str, list[str]] = {}
    failed: dict[str, str] = {}
    kept: list[str] = []
    for section in found:
        asked = Asked(settings.bin_um, _named(image, section.name), _named(alignment, section.name))
        try:
            one = _prepare(section, root, settings, asked, patients[section.name], workers, progress)
            if encoder is not None:
                write_coordinates(root / "adata" / f"{section.name}.h5ad", root, encoder)
        except UserError as error:
            failed[section.name] = str(error)
            continue
        remarks[section.name] = one["remarks"]
        kept += [section.name] if one.get("kept") else []
    return Prepared(root, write_table(root), remarks, failed, tuple(kept))


def _prepare(
    found: Found, root: Path, settings: Settings, asked: Asked, patient: str, workers: int, progress: Progress | None
) -> dict[str, Any]:
    """The row of one section, with its remarks; "kept" is in it where it was finished before."""
    section = found.read(asked)
    mark = mark_of(section, section.image, settings)
    target = root / "adata" / f"{section.name}.h5ad"
    if target.exists():
        record = read_record(target)
        if record is None:
            raise UserError(
                f"Expected to write section '{section.name}' to {target}, a file is there that `agl prepare` did not "
                "write; choose another --out or move it away."
            )
        if record["mark"] == mark and _whole(root, section.name, record["row"]):
            if patient and patient != record["row"]["patient"]:
                give_patient(target, patient)
            return {"remarks": record["remarks"], "kept": True}
    task = progress.add_task(section.name, total=len(section)) if progress is not None else None

    def told(done: int) -> None:
        if progress is not None and task is not None:
            progress.update(task, completed=done)

    return write_section(section, root, settings, patient, mark, workers=workers, told=told)


def _whole(root: Path, name: str, row: Mapping[str, Any]) -> bool:
    return "image" not in row or (root / "patches" / f"{name}.h5").is_file()


def _named(path: str | Path | None, section: str) -> Path | None:
    return None if path is None else expanded(str(path).replace("{section}", section))


def _check(settings: Settings, workers: int) -> None:
    for value, name, least, most in (
        (settings.patch_um, "--patch-um", 1, 10_000),
        (settings.patch_px, "--patch-px", 8, 4_096),
        (workers, "--workers", 1, 256),
        (50 if settings.jpeg is None else settings.jpeg, "--jpeg", 1, 100),
        (8 if settings.bin_um is None else settings.bin_um, "--bin-um", 0, 10_000),
    ):
        if not least <= value <= most:
            raise UserError(f"Expected {name} from {least} to {most}, received {value}; give another.")


def _check_names(found: Sequence[Found]) -> None:
    counted = Counter(section.name for section in found)
    name, often = counted.most_common(1)[0]
    if often > 1:
        first, other = [section.path for section in found if section.name == name][:2]
        raise UserError(
            f"Expected sections with different names, {first} and {other} are both '{name}'; rename a folder."
        )
    for section in found:
        if wrong := unwritable(section.name):
            raise UserError(f"Expected a plain name of a section, received {section.path}, which {wrong}; rename it.")
