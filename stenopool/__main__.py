"""`python -m stenopool`."""

from stenopool.cli import main

main()
