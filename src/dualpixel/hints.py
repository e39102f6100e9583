"""What did you mean? Near matches for names that do not exist."""

from collections.abc import Iterable
from difflib import get_close_matches


def near(name: str, allowed: Iterable[str]) -> str:
    """Say what was probably meant, and what is allowed.

    >>> near("dpd", ["dpdd", "quickstart"])
    "did you mean 'dpdd'? Allowed: dpdd, quickstart"
    """
    allowed = list(allowed)
    close = get_close_matches(str(name).lower(), [str(one) for one in allowed], n=1, cutoff=0.6)
    listed = "Allowed: " + (", ".join(map(str, allowed)) if allowed else "none")
    return f"did you mean {close[0]!r}? {listed}" if close else listed
