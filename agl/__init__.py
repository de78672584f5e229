"""Auxiliary-gene learning."""
