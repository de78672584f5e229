"""Convex and low-rank learners on frozen features, and the outer problem that they solve in closed form."""
