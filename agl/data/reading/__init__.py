"""From files on disk to checked arrays: find, read, join, import once."""
