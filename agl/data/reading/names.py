"""One list of gene names for all slides, and the reason for every gene that did not make it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from agl.data.reading.gene_kinds import kinds_note, why_no_gene
from agl.errors import DataError, did_you_mean

_ENSEMBL = re.compile(r"^ENS[A-Z]{0,5}G\d{11}$", re.IGNORECASE)
_VERSIONED = re.compile(r"^(ENS[A-Z]{0,5}G\d{11})\.\d+(?:_PAR_Y)?$", re.IGNORECASE)

NOT_MEASURED = "not measured in"
REPEATED = "name repeated in the slide: counts were added to the first"


@dataclass(frozen=True)
class RawNames:
    """Gene names as one slide's file has them: [gene] each, the others from columns of `var` if any."""

    names: Sequence[str]
    symbols: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    kinds: Sequence[str] | None = None

    def is_gene(self) -> np.ndarray:
        """bool [gene]: columns that count towards the library size, all but nameless ones, controls, antibodies..."""
        return np.array([not reason for reason in self.why_no_gene()], dtype=bool)

    def why_no_gene(self) -> list[str]:
        """The reason of each column that is no gene, "" for genes."""
        return why_no_gene([clean_name(name) for name in self.names], self.kinds)


@dataclass(frozen=True)
class Harmonised:
    """What every slide's columns become.

    `columns[slide]` [gene in file] is the position in `genes` or -1; several columns may share one position
    (their counts are added). `is_gene[slide]` marks the columns that count towards the library size
    (`RawNames.is_gene`). `lost` has one row per lost column: slide, gene, reason.
    """

    genes: tuple[str, ...]
    columns: dict[str, np.ndarray]
    is_gene: dict[str, np.ndarray]
    lost: pd.DataFrame
    notes: tuple[str, ...]


def clean_name(raw: str) -> str:
    """Trim white space and the Ensembl version suffix.

    >>> clean_name(" ENSG00000141736.14 "), clean_name("HLA-A"), clean_name("AC004556.1")
    ('ENSG00000141736', 'HLA-A', 'AC004556.1')
    """
    name = raw.strip()
    versioned = _VERSIONED.match(name)
    return versioned.group(1) if versioned else name


def is_ensembl(name: str) -> bool:
    """True for an Ensembl gene id of any species, without version.

    >>> is_ensembl("ENSG00000141736"), is_ensembl("ENSMUSG00000062312"), is_ensembl("ERBB2")
    (True, True, False)
    """
    return bool(_ENSEMBL.match(name))


def nearest(name: str, known: Collection[str]) -> str:
    """`did_you_mean` for thousands of names: without a near one it lists none of them.

    >>> nearest("ERBB3", ["ERBB2", *map(str, range(99))]), nearest("zzz", list(map(str, range(99))))
    (" Did you mean 'ERBB2'?", '')
    """
    hint = did_you_mean(name, known)
    return "" if hint.startswith(" Known") and len(known) > 20 else hint


def harmonise(slides: Mapping[str, RawNames], *, smallest_overlap: float = 0.1) -> Harmonised:
    """Intersect the genes of all slides after cleaning their names; sorted by name.

    Cleaning, in this order: white space and Ensembl version; Ensembl ids replaced by symbols where the
    slide's own `var` table knows them and the other slides use symbols (or the reverse); letter case, where
    slides spell one name differently; what is no gene dropped (`gene_kinds`); repeated names added up.

    Raises:
        DataError: fewer than `smallest_overlap` of the genes of the poorest slide are left; names the odd
            slide.

    >>> a, b = RawNames(["ERBB2", "Actb", "BLANK_1"]), RawNames(["ACTB", "ERBB2", "MKI67"])
    >>> both = harmonise({"A": a, "B": b})
    >>> both.genes, both.columns["A"].tolist()
    (('ACTB', 'ERBB2'), [1, 0, -1])
    >>> both.lost.values.tolist()
    [['A', 'BLANK_1', 'control probe'], ['B', 'MKI67', 'not measured in A']]
    """
    notes: list[str] = []
    names = _one_vocabulary(slides, notes)
    names = _one_letter_case(names, notes)
    no_gene = {slide: raw.why_no_gene() for slide, raw in slides.items()}
    valid = {slide: np.array([not reason for reason in reasons], dtype=bool) for slide, reasons in no_gene.items()}
    in_how_many: Counter[str] = Counter()  # not a set for each slide: a thousand slides would fill the memory
    for slide, own in names.items():
        in_how_many.update(_distinct(own, valid[slide]))
    genes = tuple(sorted(name for name, slides_with in in_how_many.items() if slides_with == len(names)))
    _refuse_small_overlap(genes, in_how_many, names, valid, smallest_overlap)
    position = {gene: i for i, gene in enumerate(genes)}
    columns = {s: np.array([position.get(n, -1) for n in own], dtype=np.int32) for s, own in names.items()}
    for slide, ok in valid.items():
        columns[slide][~ok] = -1
    lost = _lost_genes(slides, names, no_gene, valid, position)
    repeated = (lost["reason"] == REPEATED).groupby(lost["slide"]).sum()
    notes += [f"{s}: {n} repeated gene names, counts added up" for s, n in repeated.items() if n]
    notes += [note] if (note := kinds_note(no_gene, names)) else []
    return Harmonised(genes, columns, valid, lost, tuple(notes))


def _one_vocabulary(slides: Mapping[str, RawNames], notes: list[str]) -> dict[str, list[str]]:
    """Symbols everywhere if any slide has mostly symbols, as far as the slides' own tables can translate."""
    cleaned = {slide: [clean_name(n) for n in raw.names] for slide, raw in slides.items()}
    mostly_ids = {slide: _share_of_ids(own) > 0.5 for slide, own in cleaned.items()}
    if all(mostly_ids.values()):
        return cleaned
    untranslatable = [s for s, ids in mostly_ids.items() if ids and slides[s].symbols is None]
    by_symbol = [s for s, ids in mostly_ids.items() if not ids]
    if untranslatable and all(slides[s].ids is not None for s in by_symbol):
        for slide in by_symbol:
            cleaned[slide] = [clean_name(i) or n for i, n in zip(slides[slide].ids or (), cleaned[slide], strict=True)]
            notes.append(f"{slide}: gene symbols replaced by the Ensembl ids of its var table")
        return cleaned
    for slide, raw in slides.items():
        if raw.symbols is None:
            continue
        replaced = 0
        for i, symbol in enumerate(raw.symbols):
            if is_ensembl(cleaned[slide][i]) and symbol.strip() and not is_ensembl(clean_name(symbol)):
                cleaned[slide][i] = clean_name(symbol)
                replaced += 1
        if replaced:
            notes.append(f"{slide}: {replaced} Ensembl ids replaced by the symbols of its var table")
    return cleaned


def _one_letter_case(names: dict[str, list[str]], notes: list[str]) -> dict[str, list[str]]:
    """Use the commonest spelling of names that differ only in case between slides.

    Names that differ only in case *within* a slide (human and mouse genes of a graft) are different genes:
    kept.
    """
    spellings: dict[str, Counter[str]] = {}
    different_genes: set[str] = set()
    for own in names.values():
        here: dict[str, str] = {}
        for name in set(own):
            folded = name.casefold()
            if here.setdefault(folded, name) != name:
                different_genes.add(folded)
            spellings.setdefault(folded, Counter())[name] += 1
    chosen = {
        folded: min(counter, key=lambda name: (-counter[name], name))
        for folded, counter in spellings.items()
        if len(counter) > 1 and folded not in different_genes
    }
    if chosen:
        example = next(iter(chosen.values()))
        notes.append(f"{len(chosen)} genes spelled with different letter case between slides, e.g. {example}")
    return {slide: [chosen.get(n.casefold(), n) for n in own] for slide, own in names.items()} if chosen else names


def _distinct(names: list[str], valid: np.ndarray) -> set[str]:
    return {name for name, ok in zip(names, valid, strict=True) if ok}


def _refuse_small_overlap(
    genes: tuple[str, ...],
    in_how_many: Counter[str],
    names: dict[str, list[str]],
    valid: dict[str, np.ndarray],
    smallest: float,
) -> None:
    sizes = {slide: len(_distinct(own, valid[slide])) for slide, own in names.items()}
    if not sizes:
        return
    empty = [slide for slide, size in sizes.items() if not size]
    if empty:
        raise DataError(f"Expected genes in every slide, slide '{empty[0]}' has none; check its var table.")
    fewest = min(sizes.values())
    if len(genes) >= max(1, smallest * fewest):
        return
    present = {slide: _distinct(own, valid[slide]) for slide, own in names.items()}
    by_id = {slide: _share_of_ids(list(own)) > 0.5 for slide, own in present.items()}
    if len(set(by_id.values())) == 2:  # then the odd slides are those with the rarer kind of name
        rarer = 2 * sum(by_id.values()) <= len(by_id)
        odd = next(slide for slide, ids in by_id.items() if ids == rarer)
        other = next(slide for slide, ids in by_id.items() if ids != rarer)
        raise DataError(
            f"Expected the same kind of gene name in every slide, slide '{odd}' has names like "
            f"{min(present[odd])} and slide '{other}' like {min(present[other])}; "
            "add a column 'gene_symbols' to var of the slides that use Ensembl ids."
        )
    one_short = {gene for gene, slides_with in in_how_many.items() if slides_with == len(names) - 1}
    odd = max(present, key=lambda slide: len(one_short - present[slide]))
    raise DataError(
        f"Expected slides that share genes, received {len(genes)} shared of {fewest} in the smallest; "
        f"slide '{odd}' is the odd one ({len(names[odd])} genes, e.g. {min(present[odd])}); "
        "leave it out or mend its gene names."
    )


def _lost_genes(
    slides: Mapping[str, RawNames],
    names: dict[str, list[str]],
    no_gene: dict[str, list[str]],
    valid: dict[str, np.ndarray],
    position: dict[str, int],
) -> pd.DataFrame:
    having: dict[str, set[str]] = {}
    for slide, own in names.items():
        for name in _distinct(own, valid[slide]):
            if name not in position:
                having.setdefault(name, set()).add(slide)
    reasons = {name: _not_measured([s for s in names if s not in there]) for name, there in having.items()}
    rows: list[tuple[str, str, str]] = []
    for slide, own in names.items():
        seen: set[str] = set()
        for raw, name, none in zip(slides[slide].names, own, no_gene[slide], strict=True):
            if none:
                rows.append((slide, raw, none))
                continue
            if name in seen:
                rows.append((slide, raw, REPEATED))
            elif name not in position:
                rows.append((slide, raw, reasons[name]))
            seen.add(name)
    return pd.DataFrame(rows, columns=["slide", "gene", "reason"], dtype=object)


def _not_measured(missing: list[str]) -> str:
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f"{NOT_MEASURED} {', '.join(missing[:3])}{more}"


def _share_of_ids(names: list[str]) -> float:
    return sum(map(is_ensembl, names)) / len(names) if names else 0.0
