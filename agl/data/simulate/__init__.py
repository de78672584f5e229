"""Simulated sections with a known answer."""
