"""Auxiliary-gene learning: which genes should a model learn so that it ranks expression across a tissue image?"""

__version__ = "0.1.0"
