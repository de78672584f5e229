"""What the doctor found: data for `--json`, one screen for people."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

Level = Literal["error", "warning", "note"]
_STYLE = {"error": "bold red", "warning": "yellow", "note": "dim", "ok": "bold green"}
_ROWS_SHOWN = 40
_CEILINGS_SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing; `slide` is None when it concerns the whole folder."""

    level: Level
    slide: str | None
    message: str


@dataclass
class SectionCheck:
    """What one section holds; None where it could not be found out.

    `ceiling` is the mean noise ceiling of its most dispersed genes: the SCC that no predictor gets past. `depth` is the
    SCC that a spot's depth alone reaches on them; `position` and `stain` what a smooth function of its place, and the
    mean optical density of its patch, reach when fitted to other spots of the section.
    """

    slide: str
    patient: str | None = None
    patient_source: str | None = None
    spots: int | None = None
    genes: int | None = None
    counts_source: str | None = None
    library_size_source: str | None = None
    counts_min: int | None = None
    counts_median: float | None = None
    counts_max: int | None = None
    zero_count_spots: int | None = None
    ceiling: float | None = None
    depth: float | None = None
    position: float | None = None
    stain: float | None = None
    patches: dict[str, Any] | None = None
    features: dict[str, Any] | None = None


@dataclass
class CheckReport:
    """The examination of a data folder.

    Attributes:
        path: the folder. layout: which of the known layouts it has, None if none.
        sections: one entry a section, sorted by name.
        spots, patients: over all sections that could be read.
        genes_union, genes_overlap: measured anywhere, and in every section (what a dataset will have).
        will_use: what `open_dataset` would take: counts, features, patches, genes, holding out.
        train: words with which `agl train` starts on this data; empty where it could not be found out.
        findings: errors first; each says how to mend it.
    """

    path: str
    layout: str | None = None
    sections: list[SectionCheck] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    spots: int = 0
    genes_union: int = 0
    genes_overlap: int = 0
    genes_lost: dict[str, dict[str, int]] = field(default_factory=dict)
    will_use: dict[str, str] = field(default_factory=dict)
    train: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def status(self) -> Literal["ok", "warning", "error"]:
        """The worst finding: "error" means that `agl train` would refuse, whatever it is asked for."""
        levels = {finding.level for finding in self.findings}
        return "error" if "error" in levels else "warning" if "warning" in levels else "ok"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        return {"status": self.status, **asdict(self)}

    @property
    def table(self) -> pd.DataFrame:
        """One row a section."""
        import pandas as pd

        return pd.DataFrame([asdict(section) for section in self.sections])

    def _repr_html_(self) -> str:
        from html import escape

        told = "".join(
            f"<p>{each.level}: {escape(f'{each.slide or self.path}: {each.message}')}</p>" for each in self.findings
        )
        return f"{self.table.to_html(index=False)}{told}"

    def render(self, console: Console | None = None) -> None:
        """Print one screen: the sections, what will be used, what is wrong and how to mend it."""
        from rich.console import Console
        from rich.text import Text

        console = console or Console()
        console.print(Text(f"{self.path}", "bold"), Text(f"  {self.layout or 'no known layout'}", "dim"))
        if self.sections:
            console.print(self._table())
            console.print(
                f"{len(self.sections)} sections, {len(self.patients)} patients, {self.spots:,} spots, "
                f"{self.genes_overlap:,} genes in all sections of {self.genes_union:,} measured",
                highlight=False,
            )
        lines = {**self.will_use, "reachable": self.reachable(), "depth alone": self.by_depth()}
        lines |= {f"{name} alone": self.by(name) for name in ("position", "stain")}
        if self.train and self.status != "error":
            lines["train with"] = "agl train " + " ".join(map(shlex.quote, self.train))
        for what, words in lines.items():
            if words:
                console.print(Text(f"  {what:<16}", "cyan"), Text(words), sep="", soft_wrap=True)
        for finding in self.findings:
            where = f"{finding.slide}: " if finding.slide else ""
            console.print(
                Text(f"{finding.level:<8}", _STYLE[finding.level]),
                Text(f"{where}{finding.message}"),
                soft_wrap=True,
            )
        verdict = {
            "ok": "Nothing wrong was found.",
            "warning": "This data can be used; look at the warnings.",
            "error": "This data cannot be used before the errors are mended.",
        }[self.status]
        console.print(Text(verdict, _STYLE[self.status]))

    def reachable(self) -> str:
        """The mean noise ceiling of every section, in one line; empty where none is known."""
        each = _each({s.slide: s.ceiling for s in self.sections})
        return (
            f"at most SCC {each}: the noise ceiling of each section's most dispersed genes, on average" if each else ""
        )

    def by_depth(self) -> str:
        """What depth alone reaches in every section, in one line; empty where none is known."""
        each = _each({s.slide: s.depth for s in self.sections})
        return (
            f"SCC {each} with the same genes, log-normalised: what no model needs a picture for (scoring.depth=partial "
            "takes it out)"
            if each
            else ""
        )

    def by(self, name: str) -> str:
        """What position or stain density alone reaches in every section, in one line; empty where none is known."""
        each = _each({s.slide: getattr(s, name) for s in self.sections})
        what = {"position": "x, y and the distance to the edge", "stain": "how dark the patch is"}[name]
        return f"SCC {each}: {what}, fitted to other spots of the section" if each else ""

    def _table(self) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim")
        texts, numbers = ("section", "patient"), ("spots", "genes", "counts min", "median", "max")
        for name in (*texts, *numbers, "patches", "features"):
            table.add_column(name, justify="right" if name in numbers else "left", no_wrap=name in numbers)
        for s in self.sections[:_ROWS_SHOWN]:
            table.add_row(
                _plain(s.slide),
                _plain(s.patient if s.patient_source != "slide name" else f"{s.patient} (?)"),
                *map(_number, (s.spots, s.genes, s.counts_min, s.counts_median, s.counts_max)),
                _joined(s.patches, s.spots),
                _joined(s.features, s.spots),
            )
        if len(self.sections) > _ROWS_SHOWN:
            table.add_row(f"... and {len(self.sections) - _ROWS_SHOWN} more")
        return table


def _each(values: dict[str, float | None]) -> str:
    """One number a section, or their range where there are many."""
    known = {slide: value for slide, value in values.items() if value is not None}
    if len(known) > _CEILINGS_SHOWN:
        return f"{min(known.values()):.2f} to {max(known.values()):.2f} in {len(known)} sections"
    return ", ".join(f"{slide} {value:.2f}" for slide, value in known.items())


def _joined(found: dict[str, Any] | None, spots: int | None) -> str:
    if found is None:
        return "-"
    if "matched_spots" not in found:
        return str(found.get("state", "?"))
    return f"{found['matched_spots']}/{spots}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"


def _plain(value: str | None) -> str:
    """Names may contain square brackets, which rich would read as markup."""
    from rich.markup import escape

    return "?" if value is None else escape(value)
