"""The schema of `case.yaml`, and reading a case: its file, one of its variants, and single keys set by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from chemnet.runtime.config import Config, override, parse, read_yaml
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import shipped
from chemnet.runtime.nearest import hint

Share = Annotated[float, Field(ge=0, le=1)]


class GridConfig(Config):
    """Cells and size [m] of the uniform box."""

    nx: PositiveInt
    ny: PositiveInt
    length_x: PositiveFloat
    length_y: PositiveFloat


class MixtureConfig(Config):
    """The unburnt gas: fuel and oxidizer as moles by species, equivalence ratio, T [K], P [Pa]."""

    fuel: dict[str, PositiveFloat] = {"CH4": 1.0}
    oxidizer: dict[str, PositiveFloat] = {"O2": 1.0, "N2": 3.76}
    phi: PositiveFloat = 1.0
    temperature: PositiveFloat = 300.0
    pressure: PositiveFloat = 101325.0


class IgnitionConfig(Config):
    """Decaying turbulence (Passot-Pouquet spectrum) and round hot kernels of unburnt mixture, by default one.

    Velocities in m/s, lengths in m, temperature in K; the kernels' tanh edge is given in cells, and their centres as
    shares of the box in x and y.
    """

    kind: Literal["ignition"]
    rms_velocity: NonNegativeFloat
    integral_length: PositiveFloat
    kernel_radius: PositiveFloat
    kernel_temperature: PositiveFloat
    kernel_edge_cells: PositiveFloat = 2.0
    kernel_centres: Annotated[tuple[tuple[Share, Share], ...], Field(min_length=1)] = ((0.5, 0.5),)


class TaylorGreenConfig(Config):
    """The decaying Taylor-Green vortex: its largest initial velocity [m/s]."""

    kind: Literal["taylor_green"]
    velocity: PositiveFloat


class FreeFlameConfig(Config):
    """A planar premixed flame (Cantera's profile), mirrored: burnt gas of `burnt_width` [m] in the middle."""

    kind: Literal["free_flame"]
    burnt_width: PositiveFloat
    points: PositiveInt = 1400


class ChannelConfig(Config):
    """Uniform gas that moves between two walls with the profile of a sine: its largest velocity [m/s]."""

    kind: Literal["channel"]
    velocity: PositiveFloat


class StandingFlameConfig(Config):
    """A planar premixed flame (Cantera's profile) normal to y in an inflow: T is half-way up at y = `position` [m]."""

    kind: Literal["standing_flame"]
    position: PositiveFloat
    points: PositiveInt = 1400


class JetStartConfig(Config):
    """The gas and the velocity of the inflow everywhere."""

    kind: Literal["jet"]


InitialConfig = Annotated[
    IgnitionConfig | TaylorGreenConfig | FreeFlameConfig | ChannelConfig | StandingFlameConfig | JetStartConfig,
    Field(discriminator="kind"),
]


class ChemistryConfig(Config):
    """Chemistry: its kind, model, tolerances, and the cells that react.

    kind: `frozen` (no reactions), `exact` (chemnet's Rosenbrock integrator; a cell it gives up goes to CVODES),
    `cvode` (Cantera's CVODES) or `neural` (a trained `model`, by name or path). Cells at or below min_temperature [K]
    are left alone. `outside` says what happens to the cells that a model reports as outside its domain or failed:
    `exact` and `cvode` take them, `freeze` leaves them as they are for this step (all three are counted), `error` ends
    the run. `engine`: another one than the model's own (`fp32`, `bf16`, `onnx`). rtol, atol: tolerances of `exact` or
    `cvode`, whichever is at work; where they are not given it has its own. share: hand cells from ranks that have more
    work to ranks that have less; results are the same to the last bit.
    """

    kind: Literal["frozen", "exact", "cvode", "neural"]
    model: str = "drm19-small"
    min_temperature: NonNegativeFloat = 500.0
    outside: Literal["exact", "cvode", "freeze", "error"] = "exact"
    engine: Literal["fp32", "bf16", "onnx"] | None = None
    rtol: PositiveFloat | None = None
    atol: PositiveFloat | None = None
    share: bool = True


class FlowConfig(Config):
    """Choices of the time step.

    splitting: `lie` (chemistry, then diffusion) or `strang` (chemistry between two halves of diffusion: one and a half
    times the cost of diffusion, second order between the two, and no closer flame speed). box: `closed` (p0 rises) or
    `open` (p0 fixed; gas leaves by the outflow of `boundary`, or into a
    sink at the edge of a periodic box). cfl_limit: above it momentum and convection take sub-steps.
    projection_tolerance: of dt |div u - Q/dt|.
    skip_uniform: leave out cells where diffusion and convection of scalars change nothing.
    """

    splitting: Literal["lie", "strang"] = "lie"
    box: Literal["closed", "open"] = "closed"
    cfl_limit: PositiveFloat = 0.5
    projection_tolerance: PositiveFloat = 1e-11
    skip_uniform: bool = True


class JetConfig(Config):
    """A plane jet in the middle of the inflow: velocity [m/s], width and edge [m], temperature [K].

    v = v_inflow + (v_jet - v_inflow) f, f = (tanh((x + width/2) / edge) - tanh((x - width/2) / edge)) / 2, x from the
    middle; T likewise, in the mixture of the case.
    """

    velocity: PositiveFloat
    width: PositiveFloat
    edge: PositiveFloat
    temperature: PositiveFloat | None = None


class InflowConfig(Config):
    """Gas that enters at y = 0: the unburnt mixture at `velocity` [m/s], with a jet in the middle of it or without."""

    velocity: PositiveFloat
    jet: JetConfig | None = None


class BoundaryConfig(Config):
    """Boundaries in y; x is periodic.

    y: `periodic`; `walls` without slip, at `wall_temperature` [K] (one, or those at y = 0 and at the other end; null is
    adiabatic); or `flow`, an `inflow` at y = 0 and an outflow at the other end.
    """

    y: Literal["periodic", "walls", "flow"] = "periodic"
    wall_temperature: float | tuple[float | None, float | None] | None = None
    inflow: InflowConfig | None = None

    @field_validator("wall_temperature", mode="before")
    @classmethod
    def _one_or_two(cls, value: Any) -> Any:
        each = value if isinstance(value, list | tuple) else [value, value]
        if len(each) != 2 or not all(T is None or (isinstance(T, int | float) and 0.0 < T < math.inf) for T in each):
            raise ValueError(f"one temperature [K] of both walls or two in brackets, positive or null, not {value}")
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _parts_fit(self) -> BoundaryConfig:
        if self.wall_temperature is not None and self.y != "walls":
            raise ValueError(f"wall_temperature is for y=walls, not y={self.y}: leave it out")
        if self.inflow is not None and self.y != "flow":
            raise ValueError(f"inflow is for y=flow, not y={self.y}: leave it out")
        if self.inflow is None and self.y == "flow":
            raise ValueError("y=flow needs an inflow: give inflow.velocity")
        return self

    @property
    def wall_temperatures(self) -> tuple[float | None, float | None]:
        """T [K] of the walls at y = 0 and at the other end; None is adiabatic."""
        T = self.wall_temperature
        return T if isinstance(T, tuple) else (T, T)


class OutputConfig(Config):
    """Every how many steps a row of history.csv, a snapshot and a log line are written, and which fields.

    Checkpoints are written every `checkpoint_every` steps and every `checkpoint_minutes` of wall time (null: not by
    that), when the run is stopped and at its end; the last `keep_checkpoints` of them stay.
    """

    history_every: PositiveInt = 10
    snapshot_every: PositiveInt = 100
    log_every: PositiveInt = 10
    fields: tuple[str, ...] = ("T", "p", "rho", "velocity")
    checkpoint_every: PositiveInt | None = None
    checkpoint_minutes: PositiveFloat | None = 10.0
    keep_checkpoints: PositiveInt = 2


class ConsumptionConfig(Config):
    """Report the fuel consumption speed of `fronts` flame fronts, whose normal is along x or y."""

    fuel: str = "CH4"
    fronts: PositiveInt = 2
    normal: Literal["x", "y"] = "x"


class CaseConfig(Config):
    """One case. dt and end_time in s; `seed` decides the turbulence."""

    name: str
    mechanism: str = "drm19"
    seed: int = 1
    dt: PositiveFloat
    end_time: PositiveFloat
    grid: GridConfig
    mixture: MixtureConfig = MixtureConfig()
    initial: InitialConfig
    chemistry: ChemistryConfig
    flow: FlowConfig = FlowConfig()
    boundary: BoundaryConfig = BoundaryConfig()
    output: OutputConfig = OutputConfig()
    consumption_speed: ConsumptionConfig | None = None

    @model_validator(mode="after")
    def _one_step_at_least(self) -> CaseConfig:
        if self.end_time < self.dt:
            raise ValueError(f"end_time {self.end_time:g} s is shorter than one step, dt {self.dt:g} s")
        return self

    @model_validator(mode="after")
    def _box_fits_its_boundary(self) -> CaseConfig:
        y, box, kind = self.boundary.y, self.flow.box, self.initial.kind
        if y == "walls" and box == "open":
            raise ValueError("boundary.y=walls holds the gas in: flow.box=open contradicts it; set flow.box=closed")
        if y == "flow" and box == "closed":
            raise ValueError("boundary.y=flow has an outflow: flow.box=closed contradicts it; set flow.box=open")
        if y != "flow" and kind in ("standing_flame", "jet"):
            raise ValueError(f"initial.kind={kind} needs an inflow: set boundary.y=flow and boundary.inflow.velocity")
        if y != "walls" and kind == "channel":
            raise ValueError("initial.kind=channel needs walls: set boundary.y=walls")
        return self

    @property
    def n_steps(self) -> int:
        """Steps from 0 to end_time, the last one reaching or passing it by less than half a step."""
        return max(1, round(self.end_time / self.dt))


def find_case(case: str | Path) -> Path:
    """The YAML file of a case given as a file, a folder, or the name of a case that ships with the project.

    Raises FileError when there is none.
    """
    path = Path(case)
    if path.is_dir():
        path = path / "case.yaml"
    if path.is_file():
        return path
    shipped_cases = [path.parent.name for path in sorted(shipped("cases").glob("*/case.yaml"))]
    meant = hint(path.parent.name if path.name == "case.yaml" else path.name, shipped_cases, "those that ship are")
    missing = FileError(f"no case {case}: neither a folder with case.yaml, nor a file{meant}")
    if Path(case).parts[:-1] not in ((), ("cases",)):
        raise missing
    try:
        return shipped(f"cases/{Path(case).name}/case.yaml")
    except FileError:
        raise missing from None


def load_case(case: str | Path, variant: str | None = None, assignments: Iterable[str] = ()) -> CaseConfig:
    """The checked configuration of a case, after its variant and then `key=value` assignments are applied.

    Raises FileError for a missing file, UsageError for anything wrong in it (key and nearest valid key named).
    """
    path = find_case(case)
    data, variants = split_variants(read_yaml(path), str(path))
    if variant is not None and variant not in variants:
        raise UsageError(f"{path}: no variant {variant}{hint(variant, variants, 'it has')}")
    if variant is not None:
        data = _merge(data, variants[variant])
    return parse(CaseConfig, override(data, assignments), str(path))


def variant_names(case: str | Path) -> list[str]:
    """Names of the variants a case defines."""
    path = find_case(case)
    return list(split_variants(read_yaml(path), str(path))[1])


def split_variants(data: Mapping[str, Any], source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of the case itself and its `variants` (each a mapping of the keys that it changes)."""
    own = {key: value for key, value in data.items() if key != "variants"}
    variants = data.get("variants") or {}
    if not isinstance(variants, dict) or not all(isinstance(value, dict) for value in variants.values()):
        raise UsageError(f"{source}: variants: expected names, each with the keys that it changes")
    return own, variants


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with every key of `changes` replaced, mappings being merged level by level."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
