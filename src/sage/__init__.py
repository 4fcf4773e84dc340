"""SAGE: chooses who should do a piece of work, by expertise, cheapness and persistence.

``import sage`` loads nothing heavy: models, SQLite and numerical libraries load where they are used.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
