"""`python -m flows.cli`: the same as `ror`."""

from retrain_or_reload import main

main()
