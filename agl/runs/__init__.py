"""One run: what it is made of, its folder, its fit, its predictions."""
