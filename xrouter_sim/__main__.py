"""`python -m xrouter_sim` is `xrouter-sim`."""

from xrouter_sim.cli import main

main()
