"""`sage bench kernel`: what a tick costs, and what each part of the kernel buys.

Owns: nothing itself; see ``overhead.py`` and ``suite.py``. Must not know: anything.
"""
