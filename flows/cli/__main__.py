"""`python -m flows.cli`: the same as `ror`."""

from flows.cli.app import main

main()
