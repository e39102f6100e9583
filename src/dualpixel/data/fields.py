"""The fields of a sample, their storage and their meaning; every other room uses these names.

``left``, ``right``, ``combined``, ``sharp``: RGB images. Stored uint8 or uint16 (H, W, 3); in a batch float32 (B, 3, H, W) in [0, 1].
``depth``: metres along the optical axis. ``blur``: signed blur radius in pixels, positive nearer than the focus plane. ``disparity``:
disparity known up to an unknown factor, of unknown sign, and an offset, in [0, 1]: the file's integer divided by the largest that its
type holds. It stands for neither depth nor blur. All three stored float32 (H, W); in a batch float32 (B, 1, H, W).
"""

IMAGES = ("left", "right", "combined", "sharp")
MAPS = ("depth", "blur", "disparity")
FIELDS = IMAGES + MAPS

MIRRORED = {"left": "right", "right": "left"}
"""Which stored view becomes which when a scene is mirrored left to right: the lens halves are exchanged too."""
