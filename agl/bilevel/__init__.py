"""The outer problem: hypergradients of the primary genes' held-out loss."""

from agl.bilevel.gates import gate_of, gated_scores
from agl.bilevel.hypergradient import HyperGradient
from agl.bilevel.problem import NOTHING_SHARED, Problem

__all__ = ["NOTHING_SHARED", "HyperGradient", "Problem", "gate_of", "gated_scores"]
