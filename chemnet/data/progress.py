"""Progress of a sampling: what there is to do, and how long it will take by the kind of task."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from chemnet.runtime.processes import number_of_workers, ordered_map

Task = tuple[str, int]  # kind and number

_EVERY = 10.0  # [s] between two lines
_WORDS = {
    "flow": ("turbulent flame", "turbulent flames, each of a minute or so"),
    "flames": ("set of free flames", "sets of free flames"),
    "burnt": ("set of burnt gas", "sets of burnt gas"),
    "ignition": ("set of ignitions", "sets of ignitions"),
    "kernel": ("set of ignition kernels", "sets of ignition kernels"),
    "rows": ("shard of labelled rows", "shards of labelled rows"),
}


class Progress:
    """Lines about the `tasks` of a sampling, in their order; `is_done` says whether a task has left its result.

    Kinds differ a hundredfold in the time of a task, so a line tells the kind in work alone: its seconds left by the
    mean of its own tasks, and which kinds follow.
    """

    def __init__(
        self, tasks: Sequence[Task], is_done: Callable[[Task], bool], report: Callable[[str], None] = print
    ) -> None:
        self.tasks, self.report = tasks, report
        self.total = Counter(kind for kind, _ in tasks)
        self.waiting = [task for task in tasks if not is_done(task)]
        self.seconds: dict[str, list[float]] = {}
        self._last = time.monotonic()

    def begin(self, what: str, workers: int) -> None:
        """Report what there is to do, and by how many processes, before anything is computed."""
        left = Counter(kind for kind, _ in self.waiting)
        done = len(self.tasks) - len(self.waiting)
        kept = f" ({done} parts are there)" if done else ""
        processes = f"{workers} process{'es' if workers > 1 else ''}"
        self.report(f"{what}, by {processes}{kept}: {_listed(left) or 'all parts are there'}")

    def run(self, run_task: Callable[[Task], float], tasks: Sequence[Task], n_workers: int) -> None:
        """Run those of some tasks that wait; `run_task` returns its seconds. A line every ten seconds or so, and at the
        end of each kind."""
        waiting = [task for task in tasks if task in set(self.waiting)]
        workers = number_of_workers(n_workers)
        for (kind, number), seconds in zip(waiting, ordered_map(run_task, waiting, n_workers), strict=True):
            self.waiting.remove((kind, number))
            self.seconds.setdefault(kind, []).append(seconds)
            left = sum(other == kind for other, _ in self.waiting)
            if time.monotonic() - self._last > _EVERY or left == 0:
                self._last = time.monotonic()
                self.report(self.line(kind, left, workers))

    def line(self, kind: str, left: int, workers: int) -> str:
        """Line about a kind of which some tasks are `left`."""
        spent = self.seconds[kind]
        text = f"{_WORDS[kind][1].partition(',')[0]}: {self.total[kind] - left} of {self.total[kind]}"
        if left:
            text += f", {sum(spent) / len(spent) * left / workers:.0f} s left"
        others = Counter(other for other, _ in self.waiting if other != kind)
        return text + (f"; then {_listed(others)}" if others else "")

    def kept(self) -> str:
        """How many of the tasks are done."""
        return f"{len(self.tasks) - len(self.waiting)} of {len(self.tasks)} parts"


def _listed(numbers: Counter[str]) -> str:
    return ", ".join(f"{n} {_WORDS[kind][n > 1]}" for kind, n in numbers.items())
