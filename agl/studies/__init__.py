"""Runs, and many runs."""
