"""``python -m bmatch``: the command line."""

from bmatch.cli import main

main()
