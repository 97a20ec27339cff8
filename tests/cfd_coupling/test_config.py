"""case.yaml: what is read, what is refused, and what the refusal says."""

from pathlib import Path

import pytest

from cfd_coupling.config import CaseConfig, load_case, variant_names
from cfd_coupling.verification.bad_input import ASSIGNMENTS, SMALL, TEXTS, fault
from chemnet.runtime.config import dump_yaml, parse, read_yaml
from chemnet.runtime.errors import FileError, UsageError


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


BAD = [(SMALL, [words], said) for words, said in ASSIGNMENTS] + [(text, [], said) for text, said in TEXTS]


@pytest.mark.parametrize(("text", "words", "said"), BAD)
def test_a_wrong_configuration_is_refused_with_its_key_before_anything_is_written(tmp_path, text, words, said):
    assert fault(tmp_path / "case.yaml", text, words, said) == ""


def test_a_right_configuration_or_a_message_without_the_key_would_be_told(tmp_path):
    assert "accepted" in fault(tmp_path / "case.yaml", SMALL, ["grid.nx=16"], "")
    assert "lenght_x" in fault(tmp_path / "case.yaml", SMALL, ["grid.lenght_x=3"], "velocity")


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
        (["initial={kind: channel, velocity: 1}"], "initial.kind=channel needs walls"),
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
