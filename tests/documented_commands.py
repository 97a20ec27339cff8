"""Every command of the README and of the pages, run in order in a fresh clone: exit codes, wall and processor times.

    make commands
    python tests/documented_commands.py [--page NAME ...] [--clone DIR] [--venv DIR] [--list] [--json FILE]

Of each page the lines of its blocks of commands are run, one after the other, in a clone whose `runs/` is empty when
the page begins; so is its Python where it stands alone. What takes hours, or needs images, a cluster or files of the
reader, is shortened or only given to the parsers, by the table below, and the report says which. The exit code is 1 if
a command fails, or takes more than ten minutes without its page saying so. All of it takes more than an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "docs/half_hour.md",
    "README.md",
    "docs/how_to.md",
    "docs/examples/README.md",
    *(f"chemnet/{part}/README.md" for part in ("condensation", "kinetics", "validation", "reduction", "vision")),
    "cfd_coupling/README.md",
    "cfd_coupling/VERIFICATION.md",
    *(f"cases/{path.name}/README.md" for path in sorted((ROOT / "cases").iterdir()) if path.is_dir()),
)
PYTHON_OF = ("docs/half_hour.md", "chemnet/condensation/README.md")  # pages whose Python stands alone
LONGEST = 600.0  # [s] of a command whose page does not say that it is long
SAYS_LONG = re.compile(r"\b(an hour|hours|\d+ minutes|ten minutes|quarter of an hour|half an hour|budget 20m)\b")
PROGRAM = re.compile(r"(chemnet|python|mpiexec|make|pip|torchrun|srun|jupyter) |\. \.venv")

# How long commands are shortened: the first pattern that is found in one; what it is replaced by, None to only parse it
# (or, if it is none of ours, to leave it), and why.
SHORTER: tuple[tuple[str, str | None, str], ...] = (
    (r"^chemnet sample +train ", None, "a drawing"),
    (r"^make test$", None, "runs the tests, as CI does"),
    (r"^(chemnet sample)$", r"\1 --variant quick --set rows=20000 --out datasets/drm19/states.h5", "25 minutes"),
    (r"^(chemnet sample --mechanism .*)", r"\1 --variant quick --set rows=4000", "20 minutes"),
    (r"^(chemnet make .*--fuel H2)$", r"\1 --budget 1m", "half an hour"),
    (r"^(chemnet make .*--budget) 20m", r"\1 1m", "20 minutes"),
    (r"^(chemnet train --config small --seed 1)$", r"\1 --max-minutes 0.2", "a quarter of an hour"),
    (r"^(chemnet train --config small --scan-rates)$", r"\1 --max-minutes 0.1", "five minutes"),
    (r"^(chemnet train .*--start-from .*) FILE( .*)?$", r"\1 datasets/drm19/states.h5\2 --max-minutes 0.2", "its FILE"),
    (r"^chemnet refine ", None, "half an hour, and a training set with flows, which takes as long"),
    (r"^(chemnet validate model drm19-small)$", r"\1 --quick --check cold --check cost", "ten minutes"),
    (r"^(chemnet validate model) MODEL (--json small.json)$", r"\1 drm19-small --quick \2", "ten minutes"),
    (r"^(chemnet validate model) MODEL (--fuel H2.*)", r"\1 h2 --quick \2", "ten minutes"),
    (r"^(chemnet validate model) MODEL (.*)", r"\1 drm19-small \2", "its MODEL"),
    (r"^(chemnet validate exact)$", r"\1 --quick", "ten minutes"),
    (r"^chemnet compare validation seed0.json.*", r"chemnet compare validation small.json small.json", "its files"),
    (r"^(chemnet bench exact --quick) --cells 1000 --turns \d( .*)", r"\1\2", "minutes with nothing beside it"),
    (r"^chemnet reduce (--dry-run|--stage|drm19)", None, "the large network, which takes an hour to train"),
    (r"^chemnet compare methods drm19", None, "hours"),
    (r"^chemnet vision|^chemnet plot (steps|accuracies)", None, "needs the images of CIFAR-10"),
    (r"^chemnet reproduce|^make (figure-4|gpu)", None, "hours, or a GPU"),
    (r"^(python tests/condensation/strangers.py) .*", r"\1 tv.alexnet", "networks of many packages"),
    (r"^srun", None, "needs SLURM"),
    (r"^python -c .*runs/mine", None, "a run of the reader's"),
    (r"^(mpiexec .*turbulent_ignition --set chemistry.kind=exact)$", r"\1 --max-minutes 0.5", "four minutes"),
    (r"(.*runs/turbulent_ignition-exact --resume)$", r"\1 --max-minutes 0.5", "the rest of four minutes"),
    (r"^(python -m cfd_coupling verify)$", r"\1 --only bad-input", "ten minutes"),
)  # fmt: skip
STOPS = re.compile(r"cfd_coupling run .*--max-minutes")  # such runs end before their end, with 75 and a checkpoint


@dataclass(frozen=True)
class Command:
    """A command of a page: as it stands there, as it is run (None: only parsed), why it is not run as it stands, and
    whether its page says that it takes long."""

    page: str
    text: str
    run: str | None
    why: str = ""
    long: bool = False
    is_python: bool = False


def commands(page: str) -> Iterator[Command]:
    """The commands of a page in their order."""
    language, python = None, []
    lines = re.sub(r" \\\n +", " ", (ROOT / page).read_text(encoding="utf-8")).splitlines()
    for number, line in enumerate(lines):
        if line.startswith("```"):
            if language == "python" and page in PYTHON_OF:
                yield Command(page, f"python: {python[0]} ...", "\n".join(python), is_python=True)
            language, python = (line[3:] or "text") if language is None else None, []
        elif language == "python":
            python.append(line)
        elif (language or line.startswith("    ")) and PROGRAM.match(line.strip()):
            text, _, comment = line.strip().partition("  #")
            near = " ".join((comment, *lines[max(0, number - 4) : number + 5]))
            yield shortened(Command(page, text.strip(), text.strip(), long=bool(SAYS_LONG.search(near))))
    if page == "docs/examples/README.md":
        for name in sorted(re.findall(r"\[(\w+\.py)\]", "\n".join(lines)), key="read_snapshots.py".__eq__):
            argument = {"read_snapshots.py": " runs/flame_beside_cantera", "own_mechanism.py": " 1"}.get(name, "")
            yield Command(page, f"python docs/examples/{name}{argument}", f"python docs/examples/{name}{argument}")


def shortened(command: Command) -> Command:
    """The command as it is run."""
    for pattern, replacement, why in SHORTER:
        if re.search(pattern, command.text):
            run = None if replacement is None else re.sub(pattern, replacement, command.text)
            return Command(command.page, command.text, run, why, command.long)
    return command


def parse(words: list[str]) -> None:
    """Give the words of a command to its parser. Raises UsageError for a wrong one; programs of others are left."""
    from cfd_coupling.__main__ import parser as flow_parser
    from chemnet.cli.main import build_parser

    if words[0] == "chemnet":
        build_parser().parse_args(words[1:])
    if "cfd_coupling" in words:
        flow_parser().parse_args(words[words.index("cfd_coupling") + 1 :])


def execute(command: Command, clone: Path, venv: Path) -> tuple[int, float, float, str]:
    """Exit code, wall seconds, processor seconds and end of the output of a command in a clone."""
    environment = {**os.environ, "PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "MPLBACKEND": "Agg"}
    begun, busy = time.monotonic(), processor_seconds()
    words = ["python", "-c", command.run] if command.is_python else ["bash", "-c", command.run]
    done = subprocess.run(
        words, cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    return done.returncode, time.monotonic() - begun, processor_seconds() - busy, done.stdout[-3000:]


def processor_seconds() -> float:
    """Processor time [s] of all commands so far, which tells more than wall time on a machine that others use."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def check(command: Command, clone: Path, venv: Path) -> dict[str, object]:
    """Run a command and print a line; what was found."""
    found: dict[str, object] = asdict(command)
    if command.run is None:
        print(f"   -        -        -  {command.text}  [not run: {command.why}]", flush=True)
        return found | {"ok": True}
    code, seconds, busy, output = execute(command, clone, venv)
    right = (0, 75) if STOPS.search(command.run) else (0,)
    ok = code in right and (seconds <= LONGEST or command.long)
    shown = command.text if command.is_python else command.run
    note = f"  [shortened: {command.why}]" if command.why else ""
    print(f"{code:4d} {seconds:8.1f} {busy:8.1f}  {shown}{note}{'' if ok else '  FAILED'}", flush=True)
    if not ok:
        print("\n".join(f"          | {line}" for line in output.splitlines()[-12:]), flush=True)
    return found | {"exit_code": code, "seconds": round(seconds, 1), "processor_seconds": round(busy, 1), "ok": ok}


def main() -> int:
    """Run what was asked for; exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="append", metavar="NAME", help="only this page; may be repeated")
    text = "where to clone to (default runs/documented-commands); one that is there is replaced"
    parser.add_argument("--clone", type=Path, default=ROOT / "runs" / "documented-commands", metavar="DIR", help=text)
    text = "environment to use in place of the one that `make setup` makes in the clone"
    parser.add_argument("--venv", type=Path, metavar="DIR", help=text)
    parser.add_argument("--list", action="store_true", help="only show what would be run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    options = parser.parse_args()
    clone, venv = options.clone.absolute(), (options.venv or options.clone / ".venv").absolute()
    if not options.list:
        shutil.rmtree(clone, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    found = []
    for page in options.page or PAGES:
        print(f"\n{page}{'' if options.list else ': exit code, wall and processor seconds'}", flush=True)
        shutil.rmtree(clone / "runs", ignore_errors=True)
        for command in commands(page):
            if options.list:
                print(f"    {command.text}{f'  [{command.run}: {command.why}]' if command.why else ''}")
            else:
                found.append(check(command, clone, venv))
    failed = [command["text"] for command in found if not command["ok"]]
    if not options.list:
        print(
            f"\n{len(found)} commands, {sum('exit_code' in c for c in found)} run, {len(failed)} failed",
            *failed,
            sep="\n",
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
