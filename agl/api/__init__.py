"""AGL from Python, on folders or on AnnData in memory: what `import agl` offers, and what the command line calls."""
