"""Learners that are solved, not trained: convex heads, the low-rank trunk, and the outer problem in closed form."""
