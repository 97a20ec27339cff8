"""Number of threads of a computation, decided here for all of them.

A network of up to 300,000 parameters is computed by one thread, since more only cost time; a larger one by all cores,
or as many as OMP_NUM_THREADS permits. The exact step takes one thread. Who knows better says `n_threads` in a call,
`--threads` on the command line, or CHEMNET_NUM_THREADS in the environment. The libraries' own settings are used inside
of a computation and put back.
"""

from __future__ import annotations

import os

from chemnet.runtime.errors import UsageError
from chemnet.runtime.processes import available_cores

NAME = "CHEMNET_NUM_THREADS"
_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_ONE_THREAD = 300_000  # parameters


def chosen_threads(n_threads: int | None = None) -> int | None:
    """The number that a user has chosen: `n_threads`, else that of the environment; None where there is none.

    Raises UsageError for one that is not positive.
    """
    text = os.environ.get(NAME, "") if n_threads is None else str(n_threads)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{'n_threads' if n_threads is not None else NAME} = {text}: at least one thread is needed")
    return int(text)


def threads_for(parameters: int, n_threads: int | None = None) -> int:
    """Number of threads for a network with this many parameters. Raises UsageError as `chosen_threads` does."""
    chosen = chosen_threads(n_threads)
    if chosen is not None:
        return chosen
    permitted = os.environ.get(_LIBRARIES[0], "")
    cores = available_cores()
    return 1 if parameters <= _ONE_THREAD else min(cores, int(permitted) if permitted.isdecimal() else cores) or 1


def begin_command(n_threads: int | None) -> None:
    """Choose the number for a command and for all that it starts, before numpy and torch are imported."""
    if n_threads is not None:
        os.environ[NAME] = str(n_threads)
        os.environ[_LIBRARIES[0]] = str(n_threads)
    os.environ.setdefault(_LIBRARIES[1], str(n_threads or 1))  # its matrices are small
