"""Bad configurations: each is refused before anything is written, in three lines at most that name the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from cfd_coupling.config import load_case
from cfd_coupling.simulation import RunOptions, Simulation
from cfd_coupling.verification.scoreboard import Line, at_least, equal
from cfd_coupling.verification.states import COMM
from chemnet.runtime.errors import ChemnetError, UsageError

SMALL = """
name: small
dt: 1e-6
end_time: 1e-5
grid: {nx: 8, ny: 8, length_x: 1e-3, length_y: 1e-3}
initial: {kind: taylor_green, velocity: 1.0}
chemistry: {kind: frozen}
variants:
  wide:
    grid: {nx: 16}
"""

# A `key=value` assignment to SMALL, and what the message says.
ASSIGNMENTS = (
    ("chemisty.kind=cvode", "did you mean chemistry?"),
    ("grid.lenght_x=3", "unknown key grid.lenght_x; did you mean length_x?"),
    ("initial.velocty=1", "did you mean velocity?"),
    ("flow.spliting=lie", "did you mean splitting?"),
    ("output.field=[T]", "did you mean fields?"),
    ("mixture.fi=1", "mixture.fi"),
    ("seeds=2", "did you mean seed?"),
    ("chemistry.kind=cvod", "'frozen', 'exact', 'cvode' or 'neural'"),
    ("chemistry.outside=ignore", "chemistry.outside"),
    ("chemistry.engine=fp16", "chemistry.engine"),
    ("chemistry.min_temperature=-1", "chemistry.min_temperature"),
    ("chemistry.rtol=0", "chemistry.rtol"),
    ("chemistry.atol=-1e-9", "chemistry.atol"),
    ("chemistry=frozen", "chemistry"),
    ("initial.kind=vortex", "taylor_green"),
    ("initial.velocity=0", "velocity"),
    ("initial.velocity=fast", "velocity"),
    ("initial={kind: ignition}", "rms_velocity"),
    ("initial={kind: free_flame, burnt_width: -1e-3}", "burnt_width"),
    ("initial={kind: free_flame, burnt_width: 1e-3, points: 1.5}", "points"),
    ("dt=-1e-6", "dt: Input should be greater than 0"),
    ("dt=0", "dt: "),
    ("dt=.nan", "dt: "),
    ("dt=.inf", "dt: "),
    ("dt=soon", "dt: "),
    ("dt=null", "dt: "),
    ("dt=[1e-6]", "dt: "),
    ("end_time=1e-7", "shorter than one step"),
    ("end_time=-1", "end_time: "),
    ("end_time=.nan", "end_time: "),
    ("end_time={}", "end_time: "),
    ("grid.nx=8.5", "grid.nx: "),
    ("grid.nx=0", "grid.nx: "),
    ("grid.nx=-8", "grid.nx: "),
    ("grid.ny=many", "grid.ny: "),
    ("grid.ny=null", "grid.ny: "),
    ("grid.ny=2", "grid 8 x 2"),
    ("grid.length_x=0", "grid.length_x: "),
    ("grid.length_y=.nan", "grid.length_y: "),
    ("grid.nx.more=1", "no keys below it"),
    ("grid.nx", "expected key=value"),
    ("grid=8", "grid"),
    ("mixture.phi=0", "mixture.phi: "),
    ("mixture.phi=.inf", "mixture.phi: "),
    ("mixture.temperature=-300", "mixture.temperature: "),
    ("mixture.pressure=0", "mixture.pressure: "),
    ("mixture.fuel={CH5: 1}", "CH5"),
    ("mixture.fuel={CH4: -1}", "mixture.fuel"),
    ("mixture.oxidizer={O9: 1}", "O9"),
    ("mixture.fuel={N2: 1}", "burn"),
    ("mechanism=drm20", "drm20"),
    ("mechanism=3", "mechanism: "),
    ("seed=first", "seed: "),
    ("flow.splitting=godunov", "flow.splitting"),
    ("flow.box=ajar", "flow.box"),
    ("flow.cfl_limit=0", "flow.cfl_limit"),
    ("flow.projection_tolerance=-1", "flow.projection_tolerance"),
    ("flow.skip_uniform=perhaps", "flow.skip_uniform"),
    ("output.fields=[Temperature]", "Temperature"),
    ("output.fields=T", "output.fields"),
    ("output.history_every=0", "output.history_every"),
    ("output.snapshot_every=1.5", "output.snapshot_every"),
    ("output.keep_checkpoints=0", "output.keep_checkpoints"),
    ("consumption_speed.fronts=0", "consumption_speed.fronts"),
)

# The text of a case, and what the message says.
TEXTS = (
    ("dt: 1e-6\ndt: 2e-6\n", 'duplicate key "dt"'),
    ("dt: [1e-6\n", "line "),
    ("- 1\n", "expected a mapping"),
    ("", "expected a mapping"),
    (SMALL.replace("wide:\n    grid: {nx: 16}", "wide: 3"), "variants"),
    (SMALL.replace("dt: 1e-6\n", ""), "dt: Field required"),
    (SMALL.replace("name: small\n", ""), "name: Field required"),
)


def refused(quick: bool) -> Iterator[Line]:
    """How many are refused as they must be, and the first that is not."""
    with TemporaryDirectory() as name:
        path = Path(name) / "case.yaml"
        trials = [(SMALL, [words], said) for words, said in ASSIGNMENTS] + [(text, [], said) for text, said in TEXTS]
        wrong = [found for text, words, said in trials if (found := fault(path, text, words, said))]
    yield at_least("bad configurations tried", len(trials), 50)
    yield equal("bad configurations: exit 2, three lines, key named", wrong[0] if wrong else "all", "all")


def fault(path: Path, text: str, assignments: list[str], said: str) -> str:
    """What is wrong with the way a case with `text`, written to `path`, is refused; empty when nothing is."""
    path.write_text(text)
    shown = assignments[0] if assignments else repr(text[:40])
    try:
        Simulation(load_case(path, assignments=assignments), path.parent / "run", COMM, RunOptions())
    except ChemnetError as error:
        message = str(error)
        if error.exit_code != UsageError.exit_code:
            return f"{shown}: exit {error.exit_code}"
        if said not in message or len(message.splitlines()) > 3:
            return f"{shown}: {message}"
        return "" if not (path.parent / "run").exists() else f"{shown}: something was written"
    except Exception as error:
        return f"{shown}: {type(error).__name__}: {error}"
    return f"{shown}: accepted"
