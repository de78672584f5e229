"""The runs that reports are made from."""

from tests.reporting.written_runs import built, make_run, runs, world

__all__ = ["built", "make_run", "runs", "world"]
