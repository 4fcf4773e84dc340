"""``python -m sage`` is the command ``sage``."""

from sage.cli.main import main

main()
