"""Contract batteries for components, for ours and for yours."""
