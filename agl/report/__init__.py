"""Tables, statistics and figures, from files."""
