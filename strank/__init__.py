"""Ranking losses for counts."""
