"""`python -m musenet`, as torchrun starts it."""

from musenet.cli import main

main()
