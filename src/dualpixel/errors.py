"""The one error type that the command line turns into a short message."""


class DualPixelError(ValueError):
    """A mistake in what the user gave: a name, a file, a setting.

    The message is one or two lines that name the thing, what was found, what is allowed, and what mends it. The command line prints it
    alone and ends with status 2; ``--debug`` shows the traceback.
    """
