"""Gene sets from a GMT file: a line a set, with tabs between its name, a description and its genes.

Source: the format of MSigDB (Subramanian et al. 2005, PNAS 102:15545).
"""

from __future__ import annotations

from pathlib import Path

from agl.errors import UserError
from agl.places import expanded, not_a_file


def read_gmt(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Name -> genes, in the order of the file; a gene that a set names twice counts once.

    Raises:
        UserError: no such file, no text, a line without two tabs, a set without a name or genes, a set twice, no set.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".gmt") as file:
    ...     _ = file.write("T_CELLS\\tmarkers\\tCD3D\\tCD3E\\n")
    ...     file.flush()
    ...     read_gmt(file.name)
    {'T_CELLS': ('CD3D', 'CD3E')}
    """
    file = expanded(path)
    if wrong := not_a_file(file):
        raise UserError(f"Expected a GMT file of gene sets, received {str(path)!r}: {wrong}.")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(
            f"Expected text in UTF-8 in {file}, found something else. Give a GMT file: name, description and genes "
            "with tabs between."
        ) from None
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        name, genes = fields[0], tuple(dict.fromkeys(field for field in fields[2:] if field))
        if len(fields) < 3 or not name or not genes:
            what = "no tab" if len(fields) == 1 else "no name" if not name else "no genes"
            raise UserError(
                f"Expected name, description and genes with tabs between in line {number} of {file}, found {what}. "
                "Mend the line, or remove it."
            )
        if name in found:
            raise UserError(f"Expected every set once in {file}, found {name!r} again in line {number}. Rename one.")
        found[name] = genes
    if not found:
        raise UserError(f"Expected gene sets in {file}, found none. Give one line a set.")
    return found
