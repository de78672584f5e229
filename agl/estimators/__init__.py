"""Predictors that are fitted as a whole, on frozen features: solved, not trained step by step."""
