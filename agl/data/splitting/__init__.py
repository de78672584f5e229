"""Which spots train, stop, test; and whether anything leaks."""
