"""Let `python -m dualpixel ...` work where the package is installed."""

from dualpixel.cli import main

if __name__ == "__main__":
    main()
