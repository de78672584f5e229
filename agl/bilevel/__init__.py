"""The outer problem: hypergradients of the primary genes' held-out loss."""
