"""What did you mean? Near matches for names that do not exist."""

from collections.abc import Iterable
from difflib import get_close_matches


def near(name: str, allowed: Iterable[str]) -> str:
    """Say what was probably meant, and what is allowed.

    >>> near("dpd", ["dpdd", "quickstart"])
    "did you mean 'dpdd'? Allowed: dpdd, quickstart"
    """
    spelled = {str(one).lower(): str(one) for one in allowed}
    close = get_close_matches(str(name).lower(), spelled, n=1, cutoff=0.6)
    listed = "Allowed: " + (", ".join(spelled.values()) if spelled else "none")
    return f"did you mean {spelled[close[0]]!r}? {listed}" if close else listed
