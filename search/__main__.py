"""`python -m search`: the command line from a bare checkout."""

from search.cli import main

main()
