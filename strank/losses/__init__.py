"""Losses, by family: pointwise, pairwise, listwise."""
