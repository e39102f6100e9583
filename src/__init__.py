"""Launcher of the checkout: `python -m src` runs the package that lies in `src/dualpixel`."""
