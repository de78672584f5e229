"""The runs that reports are made from."""

from tests.report.written_runs import built, make_run, runs, world

__all__ = ["built", "make_run", "runs", "world"]
