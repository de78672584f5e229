"""Where counts and places come from: one file a kind of source, and the list of kinds in `known`."""
