"""Scenes turned by quarters, so that the disparity of every data set runs along the rows.

The two views of a dual-pixel camera differ along one axis of its sensor. Photographs of a telephone held upright are stored in portrait,
and there that axis is the vertical one. A reader turns such scenes before they are stored, all fields alike.

The sign rule: a card states ``quarters``, the number of counter-clockwise quarter turns between its files and what is stored. One turn
brings what lay below to the right, and what lay to the right to the top. Of the two turns that make a vertical disparity horizontal the
card takes the one after which a point nearer than the focus plane lies farther to the RIGHT in the left view than in the right view:
``quarters: 1`` where in the files its copy in the left view lies lower, ``quarters: 3`` where it lies higher. (A card cannot mend that
by exchanging the views, as it would then mirror them without mirroring the scene.)

A turned scene notes ``{QUARTERS: quarters}`` in its metadata; ``turned(image, -quarters)`` is the way back to the files' orientation.
"""

import numpy as np

QUARTERS = "quarters_turned"
"""Key of the metadata of a turned scene; absent where the files are stored as they are."""


def turned(array: np.ndarray, quarters: int) -> np.ndarray:
    """Turn an image or a map counter-clockwise.

    Args:
        array: (H, W) or (H, W, C).
        quarters: number of quarter turns; negative ones turn clockwise.

    Returns:
        The same values in (W, H) or (W, H, C) for an odd number of turns, contiguous in memory.
    """
    return np.ascontiguousarray(np.rot90(array, quarters))
