"""One loop, driven by events."""
