"""What reproduces a paper. The framework imports nothing from here; the command line does."""
