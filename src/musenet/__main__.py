"""`python -m musenet`, as torchrun starts it."""

from musenet.cli.main import main

main()
