"""Let `python -m src ...` work in a checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from dualpixel.cli import main

if __name__ == "__main__":
    main()
