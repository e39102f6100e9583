"""Tasks that other processes run: in a module that they find by name, however the tests were started."""

import os
import signal
import time

from dualpixel import DualPixelError


def work(number, tell):
    tell(f"{number} begun")
    tell(f"{number} done")


def fail(number, tell):
    tell(str(number))
    if number == 1:
        raise DualPixelError("the first is broken")


def die(number, tell):
    os.kill(os.getpid(), signal.SIGKILL)


def meet(folder, number, tell):
    """Wait for the other one, who must be another process."""
    (folder / str(number)).touch()
    until = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    tell(f"{len(list(folder.iterdir()))} {os.getpid()}")
