"""`python -m agl`."""

from agl.cli import main

main()
