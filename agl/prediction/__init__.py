"""A fitted model apart from its data: what it needs of a slide, what it says of it, and how it is given away."""
