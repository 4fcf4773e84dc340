"""`sage bench residency`: many models, little memory, and who serves it best.

Owns: nothing itself; see ``suite.py``. Must not know: anything.
"""
