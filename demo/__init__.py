"""The daemon at work on the example shop: `python -m demo`, or `make demo`."""
