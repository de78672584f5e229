"""Predictors: a shared trunk and one linear head per gene."""
