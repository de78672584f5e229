"""From sections on disk to batches of spots."""
