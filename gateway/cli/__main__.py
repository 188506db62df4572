"""`python -m gateway.cli`, for processes that start the gateway beside themselves."""

from gateway.cli import main

main()
