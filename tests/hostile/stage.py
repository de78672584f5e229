"""What a hostile input is, where it is tried, and what is asked of the answer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SERVER = Path(__file__).with_name("server.py")
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 40.0  # by the clock, for 10 of work: a busy machine is no hang
LONGEST = 1200  # letters of a sentence
LEFT = re.compile(r"\.(part|tmp|partial|old)(\.npz)?$|^\.clock-|^\.writable")
MARK = "HACKED"  # the name of the file that hostile code would make
QUICK = (
    "data.root={sections}", "data.features=latent", "model=ridge", "fold=0", "primary.k=10", "primary.min_detection=0",
)  # fmt: skip
NETWORK = (*QUICK[:2], "model={name: mlp, hidden: [8], start: none}", *QUICK[3:], "training.epochs=1")
FURNITURE = {"study": "study.yaml", "grid": "grid", "journal": "grid/study.journal"}
OWN = ("data.root=task", *QUICK[1:])  # a copy of the sections that may be broken


def nothing(work: Path) -> None:
    """Nothing to prepare."""


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Attributes:
        room: what kind of thing it attacks.
        name: what is wrong with it; unique in its room.
        words: the command line; `{sections}`, `{run}`, ... are places of the stage.
        make: writes what the command will find, in the folder where it is run.
        part: what the sentence must say.
        fine: whether the input may also be taken as it is, with exit status 0; `only` then: it must be.
        copies: places of the stage that are copied into that folder first, to be broken.
    """

    room: str
    name: str
    words: tuple[str, ...]
    make: Callable[[Path], None] = nothing
    part: str = ""
    fine: bool = False
    only: bool = False
    copies: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Room and name."""
        return f"{self.room}: {self.name}"


@dataclass(frozen=True)
class Outcome:
    """What a command gave."""

    code: int
    late: bool
    seconds: float
    out: str
    err: str
    left: tuple[str, ...]  # files that should not be there

    @property
    def sentence(self) -> str:
        """What it said, shortened for a table."""
        lines = [line for line in self.err.splitlines() if line.strip()] or self.out.splitlines()
        return lines[-1].removeprefix("agl: ").strip() if lines else ""

    def faults(self, case: Case) -> list[str]:
        """What is unclean about it; nothing if all is well."""
        found = []
        if self.late:
            found.append(f"hung ({self.seconds:.0f} s)")
        elif self.code < 0:
            found.append(f"killed by signal {-self.code}")
        if "Traceback" in self.err + self.out:
            found.append("traceback")
        elif self.code == 0 and not (case.fine or case.only):
            found.append("accepted")
        elif self.code not in (0, 2) and self.code >= 0:
            found.append(f"exit status {self.code}")
        elif self.code == 2 and case.only:
            found.append("refused")
        elif self.code == 2:
            found += self._of_sentence(case)
        return found + [f"left {name}" for name in self.left]

    def _of_sentence(self, case: Case) -> Iterator[str]:
        said = [line for line in self.err.splitlines() if line.startswith("agl: ")]
        usage = "Usage: " in self.err or self.err.startswith("Error: ")
        doctor = not self.err.strip() and "error" in self.out.lower()
        if len(said) != 1 and not usage and not doctor:
            yield f"{len(said)} sentences"
        if len(self.err) > LONGEST:
            yield f"{len(self.err)} letters"
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", self.err):
            yield "control characters"
        if not re.search(case.part, self.err + self.out, re.IGNORECASE):
            yield f"says nothing of {case.part!r}"


@dataclass
class Stage:
    """A server, the places that cases may name, and a folder for each case."""

    folder: Path
    server: subprocess.Popen[str]
    places: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def run(self, case: Case) -> Outcome:
        """Prepare, run, look what is left, clean up."""
        self.count += 1
        base = self.folder / f"case{self.count}"
        work = base / "of" / "work"
        work.mkdir(parents=True)
        said = self.folder / "said"
        said.mkdir(exist_ok=True)
        for name in case.copies:
            shutil.copytree(self.places[name], work / name)
        case.make(work)
        answer = self._ask([self._filled(word, work) for word in case.words], work, said)
        out, err = ((said / name).read_text("utf-8", errors="replace") for name in ("stdout", "stderr"))
        left = tuple(sorted({*self._left(base, work), *self._left(self.folder / "cache", self.folder / "cache")}))
        outcome = Outcome(answer["code"], answer["late"], answer["seconds"], out, err, left)
        shutil.rmtree(base, ignore_errors=True)
        return outcome

    def _filled(self, word: str, work: Path) -> str:
        for name, place in {**self.places, "work": str(work)}.items():
            word = word.replace(f"{{{name}}}", place)
        return word

    def _ask(self, words: list[str], work: Path, said: Path, *, here: bool = False) -> dict:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        environment = {"AGL_CACHE": str(self.folder / "cache"), "AGL_HOSTILE_OUT": str(said), "COLUMNS": "200"}
        request = {"words": words, "cwd": str(work), "environment": environment, "limit": SECONDS, "here": here}
        print(json.dumps(request), file=self.server.stdin, flush=True)
        return json.loads(self.server.stdout.readline())

    def _left(self, base: Path, work: Path) -> Iterator[str]:
        """Half-written files, anything outside the folder of the command, and the mark of hostile code."""
        for folder, folders, files in os.walk(base):
            for path in (Path(folder, name) for name in [*folders, *files]):
                outside = path != work and work not in path.parents and path not in work.parents
                if LEFT.search(path.name) or path.name == MARK or outside:
                    yield str(path.relative_to(base))


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """A stage with clean sections, a finished run and a finished study to break."""
    environment = os.environ | {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    environment |= {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "ready"
        stage = Stage(folder, server)
        _furnish(stage)
        yield stage
        assert server.stdin is not None
        server.stdin.close()


def _furnish(stage: Stage) -> None:
    """Clean things to break. All commands are run once, so that what they import is there when a case is tried."""
    from agl.data.simulate.task import simulate

    place = stage.folder / "furniture"
    place.mkdir()
    size = {"n_patients": 3, "spots_per_slide": 40, "n_genes": 150, "features": "latent", "seed": 1}
    stage.places["sections"] = stage.places["task"] = str(simulate(place / "task", **size))

    def do(*words: str) -> None:
        stage._ask([stage._filled(word, place) for word in words], place, place, here=True)

    done = ("name=done", f"output={place}")
    do("train", *QUICK, *done)
    do("train", *NETWORK, *done)
    do("train", *NETWORK, "auxiliary.genes=dkgsb", "auxiliary.outer.start=0", "name=other", f"output={place}")
    runs = sorted((place / "done").iterdir())
    stage.places |= {"runs": str(place / "done"), "run": str(next(r for r in runs if "mlp" in r.name))}
    for words in (("table", "{runs}"), ("evaluate", "{run}"), ("predict", "{run}", "P1S1", "--out", f"{place}/x.h5ad")):
        do(*words)
    do("report", "{runs}", "--out", f"{place}/report")
    do("check", "{sections}", "--features", "latent")
    shared = (
        f"output: {place}\nfold: 0\ndata: {{root: {stage.places['sections']}, features: latent}}\n"
        "model: ridge\nprimary: {k: 10, min_detection: 0}\n"
    )
    (place / "study.yaml").write_text(f"name: grid\n{shared}axes: {{data.normalise: [train, slide]}}\n")
    search = "search: {parameters: {data.min_counts: [1, 2]}, trials: 1, folds: [0]}\n"
    (place / "search.yaml").write_text(f"name: search\n{shared}{search}")
    do("grid", f"{place}/study.yaml")
    do("search", f"{place}/search.yaml", "model=mlp", "training.epochs=1")
    stage.places |= {name: str(place / path) for name, path in FURNITURE.items()}
