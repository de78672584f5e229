"""Lists of genes, tables of priors, folds and patients: text that is no list, or lists what is not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile.kinds import DAMAGED, NO_FILES
from tests.hostile.stage import NETWORK, OWN, QUICK, Case

GENES: dict[str, str | bytes] = {
    "nobody's genes": '{"genes": ["NOSUCHGENE"]}',
    "an empty list": "[]",
    "numbers": "[1, 2, 3]",
    "lists": '{"genes": [["a"]]}',
    "another key": '{"names": ["a"]}',
    "a word": '"a"',
    "null": "null",
    "a gene twice": '["PRIM1", "PRIM1"]',
    "10 levels of nesting": "[" * 10 + "]" * 10,
    "endless nesting": "[" * 100_000,
    "5,000 digits": "[" + "9" * 5000 + "]",
    "cut short": '{"genes": ["a',
    "half a letter": '["\\ud800"]',
    "a NUL": '["a\\u0000b"]',
    "an escape": '["\\u001b[31m"]',
    "200,000 genes": json.dumps([f"G{i}" for i in range(200_000)]),
    "a gene of a million letters": json.dumps(["g" * 1_000_000]),
    "UTF-16": '["a"]'.encode("utf-16"),
}
PRIORS: dict[str, str | bytes] = {
    "no column": "gene\nA\n",
    "two columns": "gene,a,b\nA,1,2\n",
    "words": "gene,a\nA,many\n",
    "nobody's genes": "gene,a\nNOSUCHGENE,1\n",
    "a gene twice": "gene,a\nA,1\nA,2\n",
    "lines of many lengths": "gene,a\nA,1,2,3\nB\n",
    "an open quote": 'gene,a\n"A,1\n',
    "only a header": "gene,a\n",
    "a NUL": b"gene,a\nA\x00,1\n",
    "a column of 100,000 letters": "gene," + "x" * 100_000 + "\nA,1\n",
}
FOLDS: dict[str, str | bytes] = {
    "no such slide": "sample_id\nNOWHERE\n",
    "no slide": "sample_id\n",
    "another column": "slide\nP2S1\n",
    "the test's slide": "sample_id\nP1S1\nP2S1\n",
    "an empty line": "sample_id\n\n\n",
    "lines of many lengths": "sample_id,a\nP2S1,1,2,3\n",
    "an open quote": 'sample_id\n"P2S1\n',
    "a NUL": b"sample_id\nP2S1\x00\n",
    "a path": "sample_id\n../../P2S1\n",
    "UTF-16": "sample_id\nP2S1\n".encode("utf-16"),
}
PATIENTS: dict[str, str | bytes] = {
    "no such slide": "section,patient\nNOWHERE,A\n",
    "another patient than the section's": "section,patient\nP1S1,Z\n",
    "no column": "a,b\n1,2\n",
    "only a header": "section,patient\n",
    "lines of many lengths": "section,patient\nP1S1,P1,3,4\n",
    "an open quote": 'section,patient\n"P1S1,P1\n',
    "a NUL": b"section,patient\nP1\x00S1,P1\n",
    "two lines of one slide": "section,patient\nP1S1,P1\nP1S1,P2\n",
    "columns of one name": "section,section,patient\nP1S1,P1S1,P1\n",
    "UTF-16": "section,patient\nP1S1,P1\n".encode("utf-16"),
}
RULES = {
    "fewer than two folds": ("split=k_fold", "split.k=1"),
    "more folds than spots": ("split=k_fold", "split.k=100000"),
    "blocks of nothing": ("split=spatial_blocks", "split.blocks=0"),
    "no such slide": ("split=named_slides", "split.test=[NOWHERE]"),
    "no test slide": ("split=named_slides", "split.test=[]"),
    "all slides": ("split=named_slides", "split.test=[P1S1, P2S1, P3S1]"),
    "both sides": ("split=named_slides", "split.test=[P1S1]", "split.train=[P1S1]"),
    "a share of all": ("split=random_spots", "split.fraction=1"),
    "no such patient": ("split=leave_one_slide_out", "split.patient=NOBODY"),
    "a path in a slide's name": ("split=named_slides", "split.test=[../../P1S1]"),
    "a section twice": ("data.sections=[P1S1, P1S1]",),
    "a section that is a path": ("data.sections=[../adata/P1S1]",),
    "no sections": ("data.sections=[]",),
    "one section": ("data.sections=[P1S1]",),
    "features twice": ("data.features=[latent, latent]",),
    "no features": ("data.features=[]",),
    "features of a pattern of nothing": ("data.features=*nothing*",),
    "features of a pattern of all": ("data.features=**/*",),
    "more neighbours than spots": ("data.context=[100000000]",),
    "no neighbours": ("data.context=[0]",),
    "a device that is none": ("training.device=cuda:99",),
    "a device of nothing": ("training.device=meta",),
}


def cases() -> Iterator[Case]:
    """Each list where it is read."""
    plain = tuple(word for word in QUICK if not word.startswith("primary"))
    primary = ("train", *plain, "primary=file", "primary.path=it.json")
    auxiliary = ("train", *NETWORK, "auxiliary.genes=file", "auxiliary.genes.path=it.json")
    for kind, text in GENES.items():
        yield Case("gene list", f"{kind}, primary", primary, _writer("it.json", text))
        yield Case("gene list", f"{kind}, auxiliary", auxiliary, _writer("it.json", text))
    prior = ("train", *NETWORK, "auxiliary.genes={name: top, prior: {name: file, path: it.csv}}")
    for kind, text in PRIORS.items():
        yield Case("prior", kind, prior, _writer("it.csv", text), fine=kind == "a column of 100,000 letters")
    folds = ("train", *OWN, "split=hest_csv")
    for kind, text in FOLDS.items():
        write = _writer("task/splits/train_0.csv", text)
        yield Case("fold", kind, folds, write, copies=("task",), fine=kind in ("a NUL", "UTF-16"))
    tables: dict[str, tuple[str, tuple[str, ...]]] = {
        "fold": ("task/splits/train_0.csv", folds),
        "patients": ("task/sections.csv", ("train", *OWN)),
    }
    for kind, text in PATIENTS.items():
        write = _writer("task/sections.csv", text)
        fine = kind in ("only a header", "columns of one name", "UTF-16")  # spreadsheets write UTF-16
        yield Case("patients", kind, ("train", *OWN), write, copies=("task",), fine=fine)
    for room, (place, words) in tables.items():
        for kind, make in {**NO_FILES, **DAMAGED}.items():
            fine = room == "patients" and make in NO_FILES.values()  # a table that need not be there
            yield Case(room, f"it is {kind}", words, _replacing(place, make), copies=("task",), fine=fine)
    for kind, words in RULES.items():
        keys = {word.partition("=")[0] for word in words}
        kept = tuple(word for word in QUICK if word.partition("=")[0] not in keys)
        fine = kind in ("a section twice", "features twice", "more neighbours than spots", "both sides")
        yield Case("split", kind, ("train", *kept, *words), fine=fine)


def _writer(name: str, text: str | bytes) -> Callable[[Path], None]:
    return lambda work: (work / name).write_bytes(text if isinstance(text, bytes) else text.encode()) and None


def _replacing(place: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def prepare(work: Path) -> None:
        (work / place).unlink(missing_ok=True)
        make(work / place)

    return prepare
