"""`agl ...`: one thin function a command. Anything heavy is imported by the command that needs it."""

from agl.cli.command import app, main

__all__ = ["app", "main"]
