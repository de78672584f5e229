"""Which columns of a count matrix measure no gene: control probes, antibodies, guides, empty codewords.

They would enter the library size, and an antibody is often named like its gene.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

NO_NAME = "no name"
CONTROL = "control probe"
KIND = "feature type"

# No symbol of a human or mouse gene contains "blank" or "control"; the rest are probes of Xenium, CosMx and Visium, RNA
# that was spiked in, and antibodies as 10x's kits name them.
_CONTROL = re.compile(
    r"blank|control|^neg(ative)?[-_ ]?(prb|probe)|^negative[-_ ]?\d+$|^antisense_|"
    r"^(unassigned|deprecated)|^intergenic|^falsecode|^ercc-\d{5}$|_totalseq[abc]?$|^hashtag",
    re.IGNORECASE,
)
_GENES = {"gene expression", "gene", "genes", "rna", "gex"}
_NO_GENES = re.compile(
    r"antibody|^protein( expression)?$|^adt$|^hto$|crispr|guide|^custom$|multiplexing|hashtag|antigen|peaks|"
    r"control|codeword|unassigned|deprecated|blank|spike",
    re.IGNORECASE,
)


def is_control(name: str) -> bool:
    """True for probes that measure no gene.

    >>> [is_control(n) for n in ("BLANK_0006", "NegControlProbe_00042", "antisense_ERBB2", "ERBB2")]
    [True, True, True, False]
    """
    return bool(_CONTROL.search(name))


def why_no_gene(names: Sequence[str], kinds: Sequence[str] | None) -> list[str]:
    """For each column the reason why it is no gene, "" for genes.

    Args:
        names: cleaned gene names.
        kinds: `var["feature_types"]` where there is one. Where any says "Gene Expression", nothing else is a gene;
            in another vocabulary (a biotype such as protein_coding) only what is known to be no gene.

    >>> why_no_gene(["CD3E", "CD3E", "BLANK_1"], ["Gene Expression", "Antibody Capture", "Gene Expression"])
    ['', 'feature type Antibody Capture', 'control probe']
    """
    by_kind = dict.fromkeys(kinds or (), "")
    strict = any(kind.casefold() in _GENES for kind in by_kind)
    for kind in by_kind:
        if kind and kind.casefold() not in _GENES and (strict or _NO_GENES.search(kind)):
            by_kind[kind] = f"{KIND} {kind}"
    reasons = [NO_NAME if not name else CONTROL if is_control(name) else "" for name in names]
    return reasons if kinds is None else [by_kind[k] or r for k, r in zip(kinds, reasons, strict=True)]


def kinds_note(reasons: dict[str, list[str]], names: dict[str, list[str]]) -> str | None:
    """One sentence on the columns of all slides that were left out for their feature type; None without any.

    >>> kinds_note({"S1": ["", "feature type Custom"]}, {"S1": ["ERBB2", "guide"]})
    '1 columns are no genes (1 Custom, e.g. guide of S1): neither scored nor part of the library size'
    """
    counts: Counter[str] = Counter()
    example = ""
    for slide, own in reasons.items():
        for i, reason in enumerate(own):
            if reason.startswith(KIND):
                counts[reason.removeprefix(KIND).strip()] += 1
                example = example or f"{names[slide][i]} of {slide}"
    if not counts:
        return None
    listed = ", ".join(f"{n} {kind}" for kind, n in counts.most_common(5))
    return (
        f"{counts.total()} columns are no genes ({listed}, e.g. {example}): neither scored nor part of the library size"
    )
