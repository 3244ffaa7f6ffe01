"""`python -m orchestrator` is `paretoray`, for a clone that is not installed."""

from orchestrator.cli import main

main()
