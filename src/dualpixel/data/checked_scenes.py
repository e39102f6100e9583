"""Pixels are checked against the index when they are first used: each scene once on each machine, which is noted.

Hashing costs about half a second of one core for each 10^9 bytes where the processor has instructions for SHA-256, and several times that
where it has none. It is spread over the first use of the scenes: no run waits for the whole set.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from dualpixel.data.fields import FIELDS
from dualpixel.errors import DualPixelError
from dualpixel.hints import near
from dualpixel.paths import cache_home

VARIABLE = "DUALPIXEL_CHECK"
CHOICES = ("once", "always", "never")
DAYS = 30
"""How long a note counts: disks may forget without a file's times being changed."""
RIGHT = b"1"


def scene_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over the names, shapes, types and pixels of a scene's fields, which does not depend on how it is packed."""
    digest = hashlib.sha256()
    for name in FIELDS:
        if name in arrays:
            array = np.ascontiguousarray(arrays[name])
            digest.update(f"{name}{array.shape}{array.dtype}".encode())
            digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


class CheckedScenes:
    """Which scenes of a split were found right.

    The environment variable DUALPIXEL_CHECK says how often they are checked: ``once`` on each machine, again when a file has changed
    or after `DAYS` days (the default); ``always``, in each process; or ``never``. Notes are kept in ``checked`` in the cache folder of
    `dualpixel.paths.cache_home`, a byte for each scene, so processes that begin together share the work. Where none can be kept each
    process checks for itself.

    Args:
        identity: all that the pixels depend on: the index, and the files with their sizes and times.
        count: number of scenes.

    Raises:
        DualPixelError: another value of the variable.
    """

    def __init__(self, identity: Any, count: int) -> None:
        self.how = os.environ.get(VARIABLE) or CHOICES[0]
        if self.how not in CHOICES:
            raise DualPixelError(f"${VARIABLE} is {self.how!r}; {near(self.how, CHOICES)}")
        known = [identity, time.time() // (DAYS * 86400)]
        self.path = cache_home() / "checked" / hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]
        self._here = bytearray(RIGHT * count if self.how == "never" else count)

    def ensure(self, position: int, check: Callable[[], None]) -> None:
        """Check a scene unless that was done.

        Args:
            position: of the scene.
            check: raises where it is not right.
        """
        if self._here[position]:
            return
        with self._held(position) as file:
            if file is None or os.pread(file, 1, position) != RIGHT:
                check()
                if file is not None:
                    with suppress(OSError):
                        os.pwrite(file, RIGHT, position)
        self._here[position] = 1

    @contextmanager
    def _held(self, position: int) -> Iterator[int | None]:
        """Open the notes, and let nobody else check this scene meanwhile; None where there are no notes."""
        file = None
        if self.how == "once":
            with suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                fcntl.lockf(file, fcntl.LOCK_EX, 1, position)  # let go when it is closed, or its process dies
        try:
            yield file
        finally:
            if file is not None:
                os.close(file)
