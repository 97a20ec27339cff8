"""Cantera's data files: where one lies, which of its phases is meant, and what is wrong with one that does not load.

A name is `drm19` (bundled), `gri30.yaml` (comes with Cantera) or a path, and may end in `#PHASE`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cantera as ct

from chemnet.runtime.config import parse_yaml
from chemnet.runtime.errors import UsageError
from chemnet.runtime.nearest import nearest

_BUNDLED = Path(__file__).parent / "mechanisms"
_MARK = "#"  # between file and phase


def bundled_mechanisms() -> list[str]:
    """Names of the mechanisms that ship."""
    return sorted(path.stem for path in _BUNDLED.glob("*.yaml"))


def with_phase(name: str, phase: str) -> str:
    """The name of one phase of a file. Raises UsageError where the name says another one already."""
    file, named = _split(name)
    if named not in ("", phase):
        raise UsageError(f"{name} names a phase already, and {phase} is asked for: give one of them")
    return f"{file}{_MARK}{phase}"


def open_gas(name: str) -> tuple[str, ct.Solution]:
    """The file of a name as Cantera finds it, and its phase. Raises UsageError with Cantera's reason."""
    file, phase = _split(name)
    source = _find(file)
    try:
        with jumps_untold():
            return source, ct.Solution(source, phase)
    except ct.CanteraError as error:
        known = _phases(source)
        if phase and known and phase not in known:
            close = nearest(phase, known)
            meant = f"did you mean {close}?" if close else f"it has {_listed(known)}"
            raise UsageError(f"{file} has no phase {phase}; {meant}") from None
        raise UsageError(f"{name}: {reason(error)}\n{_way_out(error)}") from None


@contextmanager
def jumps_untold() -> Iterator[None]:
    """Without Cantera's warnings of jumps between two ranges, which come anew with every object."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "NasaPoly2::validate", UserWarning)
        yield


def check_ideal_gas(gas: ct.Solution, name: str) -> None:
    """Raise UsageError unless it is an ideal gas with reactions; it names the phases of the file that are."""
    if gas.thermo_model == "ideal-gas" and gas.n_reactions > 0:
        return
    lack = "has no reactions" if gas.thermo_model == "ideal-gas" else f"is no ideal gas ({gas.thermo_model})"
    phases = _phases(gas.source)
    gases = [phase for phase, thermo in phases.items() if thermo == "ideal-gas" and phase != gas.name]
    wanted = f"chemnet needs an ideal gas with reactions; the file has {_listed(phases)}" if phases else ""
    say = f"Say {_split(name)[0]}{_MARK}{gases[0] if len(gases) == 1 else 'PHASE'}." if gases else "Give another file."
    raise UsageError("\n".join(line for line in (f"{name}: phase {gas.name} {lack}", wanted, say) if line))


def text_of(gas: ct.Solution) -> str:
    """A Cantera object as the text of a data file."""
    writer = ct.YamlWriter()
    writer.add_solution(gas)
    return str(writer.to_string())


def reason(error: ct.CanteraError) -> str:
    """What Cantera says is wrong, with the line of the file where it says that, in one line."""
    innermost = str(error).split(" thrown by ")[-1].splitlines()[1:]
    words: list[str] = []
    for line in (line.strip() for line in innermost):
        if line.startswith(("*", "|")):
            break
        where = re.match(r"Error on (lines? [\d and]+?) of .*:$", line)
        words.append(f"{where[1]}:" if where else line)
    return " ".join(" ".join(words).split()) or "Cantera cannot read it"


def _way_out(error: ct.CanteraError) -> str:
    lacks_phases = "Key 'phases' not found" in str(error)
    return "Give a Cantera YAML file with a gas phase." if lacks_phases else "Mend the file there."


def _split(name: str) -> tuple[str, str]:
    """File and phase of a name, the phase empty where none is said."""
    if _MARK not in name or Path(name).exists():
        return name, ""
    file, _, phase = name.partition(_MARK)
    return file, phase


def _find(name: str) -> str:
    bundled = _BUNDLED / f"{name}.yaml"
    if bundled.exists():
        return str(bundled)
    if Path(name).exists():
        return str(Path(name).resolve())
    if any((Path(folder) / name).exists() for folder in ct.get_data_directories()):
        return name
    shipped = bundled_mechanisms()
    of_cantera = sorted({path.name for folder in ct.get_data_directories() for path in Path(folder).glob("*.yaml")})
    close = nearest(name, [*shipped, *of_cantera])
    meant = f"; did you mean {close}?" if close else f"; bundled: {', '.join(shipped)}"
    raise UsageError(f"no mechanism {name}{meant}\nElse give the path of a Cantera YAML file.")


def _phases(source: str) -> dict[str, str]:
    """Phases of a file and their kinds; none where the file cannot be read."""
    folders = (Path(folder) for folder in ct.get_data_directories())
    path = next((path for path in (Path(source), *(folder / source for folder in folders)) if path.is_file()), None)
    if path is None:
        return {}
    section = re.search(r"^phases:.*\n(?:(?:[\s#-].*)?\n)*", path.read_text(encoding="utf-8"), re.MULTILINE)
    try:
        phases = parse_yaml(section[0], source)["phases"] if section else []
        return {str(phase["name"]): str(phase["thermo"]) for phase in phases}
    except (UsageError, KeyError, TypeError):
        return {}


def _listed(phases: dict[str, str]) -> str:
    return ", ".join(f"{name} ({thermo})" for name, thermo in phases.items())
