"""The name that was meant by one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 12  # names, at most, that are listed in full


def hint(name: str, known: Iterable[str], there_are: str = "there are") -> str:
    """End of a message about an unknown name: `; did you mean X?`, else `; there are ...` with those that are known."""
    names = list(dict.fromkeys(known))
    close = nearest(name, names)
    if close is not None:
        return f"; did you mean {close}?"
    listed = ", ".join(names) if len(names) <= _LISTED else f"{', '.join(names[:_LISTED])}, ..."
    return f"; {there_are} {listed or 'none'}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like another one, upper and lower case alike; None where none is like it."""
    by_fold = {other.casefold(): other for other in known}
    close = difflib.get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[close[0]] if close else None
