"""A progress display on standard error, so that standard output holds nothing but results."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text


class Note(ProgressColumn):
    """What a task says about itself, in its field `note`, if it says anything."""

    def render(self, task: Task) -> Text:
        """The note."""
        return Text(str(task.fields.get("note", "")))


def display(*, time_left: bool = True, shown: bool = True) -> Progress:
    """Bars that go when they are done; `time_left=False` where the note says it, `shown=False` where nobody looks."""
    cut = {"no_wrap": True, "overflow": "ellipsis"}
    columns = [
        TextColumn("{task.description}", table_column=Column(max_width=48, **cut)),  # type: ignore[arg-type]
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        Note(table_column=Column(ratio=1, **cut)),  # type: ignore[arg-type]
        *([TimeRemainingColumn()] if time_left else []),
    ]
    return Progress(*columns, console=Console(stderr=True), transient=True, expand=True, disable=not shown)
