"""Five real tissue sections that come with the program; see README.md beside this file for whose they are."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from agl.errors import DataError

NAME = "example"  # as `data.root` of a config


def example_folder() -> Path:
    """The folder of the example: 1,177 spots of three HER2-positive breast tumours, 8,796 genes, patches as JPEG.

    It has HEST-bench's layout, with the features `builtin_originals` beside the patches and the splits
    `splits_patient` and `splits_section`.

    Raises:
        DataError: the package was installed without its data.

    Source: Andersson et al., Nat. Commun. 12, 6012 (2021), CC BY 4.0.

    >>> from agl.data.reading.sections import scan_folder
    >>> scan_folder(example_folder()).slides
    ('A1', 'B4', 'C2', 'C3', 'C5')
    """
    folder = Path(str(files(__name__)))
    if not (folder / "adata").is_dir():
        raise DataError(f"Expected the example's sections in {folder}, found none; install agl again, with its data.")
    return folder


def folder_named(root: str) -> str:
    """The folder that `data.root` means: "example" is the example, unless there is a folder of that name here.

    Raises:
        DataError: nothing is there, and the name is nearly that of the example.
    """
    if Path(root).exists():
        return root
    if root != NAME and get_close_matches(root, [NAME], cutoff=0.75):
        raise DataError(f"Expected a folder of tissue sections at {root}, found nothing. Did you mean '{NAME}'?")
    return str(example_folder()) if root == NAME else root
