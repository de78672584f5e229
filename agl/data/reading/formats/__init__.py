"""Formats of feature files: `base` says what a format is, `known` which there are; one small file each."""
