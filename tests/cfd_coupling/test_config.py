"""case.yaml: what is read, what is refused, and what the refusal says."""

from pathlib import Path

import pytest

from cfd_coupling.config import CaseConfig, load_case, variant_names
from chemnet.runtime.config import dump_yaml, parse, read_yaml
from chemnet.runtime.errors import FileError, UsageError

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


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "case.yaml").write_text(SMALL)
    return tmp_path


def test_a_case_is_found_by_folder_file_or_shipped_name(small):
    assert load_case(small) == load_case(small / "case.yaml")
    assert load_case("turbulent_ignition").name == "turbulent_ignition"


def test_a_variant_changes_only_its_own_keys(small):
    plain, wide = load_case(small), load_case(small, "wide")
    assert variant_names(small) == ["wide"]
    assert wide.grid.nx == 16
    assert wide.model_copy(update={"grid": plain.grid}) == plain


def test_assignments_come_after_the_variant(small):
    case = load_case(small, "wide", ["grid.nx=32", "chemistry.min_temperature=6e2"])
    assert (case.grid.nx, case.grid.ny, case.chemistry.min_temperature) == (32, 8, 600.0)


def test_the_configuration_as_used_reads_back_to_itself(small, tmp_path):
    case = load_case(small, assignments=["consumption_speed.fuel=CH4"])
    (tmp_path / "used.yaml").write_text(dump_yaml(case))
    assert load_case(tmp_path / "used.yaml") == case


@pytest.mark.parametrize(("end_time", "steps"), [(1e-5, 10), (1.04e-5, 10), (1e-6, 1), (4.93e-4, 493)])
def test_the_number_of_steps_is_the_nearest_to_end_time(small, end_time, steps):
    assert load_case(small, assignments=[f"end_time={end_time}"]).n_steps == steps


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("chemisty.kind=cvode", "did you mean chemistry?"),
        ("grid.lenght_x=3", "unknown key grid.lenght_x; did you mean length_x?"),
        ("initial.velocty=1", "did you mean velocity?"),
        ("chemistry.kind=cvod", "'frozen', 'exact', 'cvode' or 'neural'"),
        ("initial.kind=vortex", "taylor_green"),
        ("dt=-1e-6", "dt: Input should be greater than 0"),
        ("dt=.nan", "dt: "),
        ("grid.nx=8.5", "grid.nx: "),
        ("end_time=1e-7", "shorter than one step"),
        ("grid.nx.more=1", "no keys below it"),
        ("grid.nx", "expected key=value"),
    ],
)
def test_wrong_assignments_are_usage_errors_that_name_the_key(small, assignment, message):
    with pytest.raises(UsageError) as caught:
        load_case(small, assignments=[assignment])
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dt: 1e-6\ndt: 2e-6\n", 'duplicate key "dt"'),
        ("dt: [1e-6\n", "line "),
        ("- 1\n", "expected a mapping"),
        (SMALL.replace("wide:\n    grid: {nx: 16}", "wide: 3"), "variants"),
        (SMALL.replace("dt: 1e-6\n", ""), "dt: Field required"),
    ],
)
def test_broken_files_are_usage_errors(tmp_path, text, message):
    (tmp_path / "case.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_case(tmp_path)


def test_an_unknown_variant_names_the_nearest(small):
    with pytest.raises(UsageError, match="no variant wid; did you mean wide?"):
        load_case(small, "wid")


def test_a_missing_case_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="no case"):
        load_case(tmp_path / "nowhere")


def test_schema_and_file_agree_without_variants(small):
    data = read_yaml(small / "case.yaml")
    del data["variants"]
    assert parse(CaseConfig, data, "case.yaml") == load_case(small)


@pytest.mark.parametrize(
    "assignments, message",
    [
        (["boundary.y=walls", "flow.box=open"], "flow.box=open contradicts"),
        (["boundary.y=flow", "boundary.inflow.velocity=1"], "flow.box=closed contradicts"),
        (["boundary.y=flow", "flow.box=open"], "y=flow needs an inflow"),
        (["boundary.inflow.velocity=1"], "inflow is for y=flow, not y=periodic"),
        (["boundary.wall_temperature=400"], "wall_temperature is for y=walls, not y=periodic"),
        (["boundary.y=walls", "boundary.wall_temperature=-3"], "wall_temperature: one temperature .*, not -3"),
        (["boundary.y=walls", "boundary.wall_temperature=[300]"], r"wall_temperature: one temperature .*, not \[300\]"),
        (["boundary.y=wall"], "boundary.y"),
        (["initial={kind: standing_flame, position: 1e-3}"], "initial.kind=standing_flame needs an inflow"),
    ],
)
def test_boundaries_that_contradict_the_rest_of_the_case_are_refused_by_name(small, assignments, message):
    with pytest.raises(UsageError, match=message) as refused:
        load_case(small, assignments=assignments)
    assert "Value error" not in str(refused.value) and "{'" not in str(refused.value)


def test_walls_have_no_temperature_or_one_or_two(small):
    for text, pair in (("null", (None, None)), ("400", (400.0, 400.0)), ("[300, null]", (300.0, None))):
        case = load_case(small, assignments=["boundary.y=walls", f"boundary.wall_temperature={text}"])
        assert case.boundary.wall_temperatures == pair
