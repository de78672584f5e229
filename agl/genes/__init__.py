"""Which genes are learnt: primary genes, priors, gene sets, selectors."""
