"""Images of slides, read region by region at the resolution that is asked for."""
