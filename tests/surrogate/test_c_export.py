"""A model in C: what it computes, what it refuses, and that the sources are as strict and as safe as they say."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import cantera as ct
import numpy as np
import pytest
import torch
from scipy import special

import chemnet
from chemnet.benchmark.export import CompiledStep, built, found_compilers, shares_of_change
from chemnet.benchmark.model import FlameCells, ignition_cells
from chemnet.cli import main as cli
from chemnet.data.burning import burning_of_facts
from chemnet.gas import state
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.runtime.errors import FileError
from chemnet.surrogate import c_export
from chemnet.surrogate.domain import Domain
from chemnet.surrogate.export import advance_in_double, export
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.model_file import shipped_models
from chemnet.surrogate.network import ACTIVATIONS, NetConfig, build
from chemnet.surrogate.transform import LABELS, fit_transform

PROGRAMS = Path(__file__).parent / "c_programs"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
COMPILERS = found_compilers()

pytestmark = pytest.mark.skipif(not COMPILERS, reason="needs make, and gcc or clang")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exported folder with a library in it."""
    out = tmp_path_factory.mktemp("exported") / "tiny c"
    export(random_model(), "c", out)
    built(out, COMPILERS[0])
    return out


def random_model(mechanism="drm19", activation="gelu", label="signed_root", widths=(70, 35), **limits):
    """An untrained network, whose changes are those of strongly perturbed gas."""
    mechanism, rng = load_mechanism(mechanism), np.random.default_rng(1)
    states = random_states(mechanism, 300)
    after = states.copy()
    after[:, 0] += rng.standard_normal(300)
    after[:, 2:] *= np.exp(0.05 * rng.standard_normal(after[:, 2:].shape))
    columns = 2 + mechanism.n_species
    network = build(NetConfig(widths=(columns, *widths, columns), activation=activation), seed=1)
    domain = Domain.box(mechanism, T=(350.0, 3000.0), P=(7e4, 3e5))
    return Surrogate(network, fit_transform(states, after, mechanism, label), mechanism, 1e-6, domain, **limits)


def random_states(mechanism, n):
    rng = np.random.default_rng(0)
    Y = rng.dirichlet(np.full(mechanism.n_species, 0.2), n)
    return np.column_stack([rng.uniform(300, 3100, n), rng.uniform(8e4, 2e5, n), Y])


def burning_states(model, n):
    """n states of an ignition of what a model burns; its shipped mechanism needs no transport data for that."""
    flame = FlameCells().of(burning_of_facts(model.metadata["data"]))
    return ignition_cells(model.mechanism, flame, n)["ignition"]


def half_calm(model, states):
    """A model that takes one half of the states as calm."""
    outputs = model.network(torch.from_numpy(model.transform.inputs(states))).detach().numpy()
    largest = np.abs(outputs[:, model.transform.active[1:]]).max(axis=1)
    return model.with_limits(calm_limit=float(np.median(largest)) ** model.transform.power)


def in_c(model, folder, tmp_path):
    """The step of a model in C, by the library of a folder that was made for another one."""
    (tmp_path / "model.bin").write_bytes(c_export.model_bytes(model))
    return CompiledStep(model.mechanism, folder / "libchemnet_step.so", tmp_path / "model.bin")


def check_same_step(model, step, states, share):
    """Statuses are equal, changes to a share of the largest change of each column, conserved what is to be."""
    expected, status = model.advance(states)
    kept = states.copy()
    found, found_status = step.advance(states)
    np.testing.assert_array_equal(found_status, status)
    np.testing.assert_array_equal(states, kept)
    ok = status == Status.OK
    np.testing.assert_array_equal(found[~ok], states[~ok])
    assert shares_of_change(states[ok], expected[ok], found[ok]).max() <= share
    lost = state.elements(found[ok], model.mechanism) - state.elements(states[ok], model.mechanism)
    gained = state.enthalpy(found[ok], model.mechanism) - state.enthalpy(states[ok], model.mechanism)
    heat = state.heat_capacity(states[ok], model.mechanism) * states[ok, 0]
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(gained / heat, 0.0, rtol=0, atol=1e-12)
    assert found[ok, 2:].min() >= min(0.0, states[ok, 2:].min())
    return status


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_step_in_c_is_that_of_python_for_every_activation_and_label(activation, label, folder, tmp_path):
    states = random_states(load_mechanism(), 100)
    model = half_calm(random_model(activation=activation, label=label, cold_limit=500.0), states)
    status = check_same_step(model, in_c(model, folder, tmp_path), states, 2e-5)
    assert {Status.OK, Status.OUTSIDE, Status.SLOW} == set(status.tolist())


@pytest.mark.parametrize("widths", [(), (1,), (6, 7, 48, 1, 5)])
def test_networks_of_any_shape_are_stepped(widths, folder, tmp_path):
    model = random_model("h2o2.yaml", widths=widths)
    check_same_step(model, in_c(model, folder, tmp_path), random_states(model.mechanism, 70), 1e-4)


def test_polynomials_with_further_ranges_and_negative_powers_are_those_of_python(folder, tmp_path):
    gas = ct.Solution("h2o2.yaml")
    species = gas.species()
    for one in species[:5]:
        low, high = one.thermo.coeffs[8:15], one.thermo.coeffs[1:8]
        edges = [200.0, one.thermo.coeffs[0], 2000.0, 6000.0]
        zones = [x for i in range(3) for x in (edges[i], edges[i + 1], 300.0, -5.0, *(high if i else low))]
        one.thermo = ct.Nasa9PolyMultiTempRegion(200.0, 6000.0, ct.one_atm, [3, *zones])
    wide = ct.Solution(thermo="ideal-gas", kinetics="gas", species=species, reactions=gas.reactions(), name="wide")
    model = random_model(wide)
    assert model.mechanism.nasa.shape[1] > 17
    check_same_step(model, in_c(model, folder, tmp_path), random_states(model.mechanism, 70), 1e-4)


LARGE = "drm19-original"  # 27 MB


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == LARGE else name for name in shipped_models()]
)
def test_a_model_that_ships_gives_the_answers_of_python_and_of_its_network_in_double_precision(name, folder, tmp_path):
    """Single precision leaves this: Python's own engine is as far from the network in double precision."""
    model = Surrogate.load(name, engine="fp32")
    states, step = burning_states(model, 200), in_c(model, folder, tmp_path)
    ok = check_same_step(model, step, states, 4e-5) == Status.OK
    assert ok.sum() >= 150
    in_double = advance_in_double(model, states[ok])
    assert shares_of_change(states[ok], in_double, step.advance(states[ok]).states).max() <= 3e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_models())
def test_a_good_build_passes_the_check_of_every_model_that_ships(name, folder, tmp_path):
    model = Surrogate.load(name, engine="fp32")
    step = in_c(model, folder, tmp_path)
    (tmp_path / "check.txt").write_text(c_export.check_text(model))
    assert "0 statuses differ" in run(program(folder / "check.c", folder, tmp_path), cwd=tmp_path)
    status = step.advance(c_export.check_states(model)).status.tolist()
    assert status[-4:-2] == [Status.INVALID] * 2 and status[-1] == Status.OUTSIDE and status.count(Status.OK) >= 16


def test_invalid_cold_and_calm_gas_and_gas_outside_are_marked_as_in_python(folder, tmp_path):
    model = random_model(cold_limit=800.0, calm_limit=0.01)
    rows = np.repeat(random_states(model.mechanism, 1), 14, axis=0)
    rows[:, 0] = 1500.0
    rows[0, 0], rows[1, 0], rows[2, 0], rows[3, 0], rows[4, 0] = np.nan, np.inf, -np.inf, 3600.0, 3200.0
    rows[5, 0], rows[6, 0], rows[7, 1], rows[8, 1] = 799.0, 100.0, np.nan, np.inf
    rows[9, 1], rows[10, 5], rows[11, 6], rows[12, 7] = 5e5, np.nan, -1e-3, 0.5
    step = in_c(model, folder, tmp_path)
    invalid, outside, slow, ok = Status.INVALID, Status.OUTSIDE, Status.SLOW, Status.OK
    found = step.advance(rows).status.tolist()
    assert found == [*[invalid] * 4, outside, slow, *[invalid] * 3, outside, *[invalid] * 3, ok]
    assert found == model.advance(rows).status.tolist()
    calm = model.with_limits(calm_limit=1e3)
    assert set(in_c(calm, folder, tmp_path).advance(rows[[4, 13]]).status.tolist()) == {outside, slow}


def test_an_answer_that_cannot_be_closed_fails_its_own_cell_only(folder, tmp_path):
    model = random_model()
    states = random_states(model.mechanism, 50)
    states[:, 0] = 1500.0
    model.network[0].weight.data[0] = 0.0
    model.network[0].weight.data[0, 2] = 1e30  # hydrogen of more than its mean makes the network overflow
    model = model.with_network(model.network)
    expected, status = model.advance(states)
    found, found_status = in_c(model, folder, tmp_path).advance(states)
    assert {Status.OK, Status.FAILED} == set(status.tolist())
    np.testing.assert_array_equal(found_status, status)
    np.testing.assert_array_equal(found[status != Status.OK], states[status != Status.OK])


def test_activations_are_those_of_mathematics_however_large_their_arguments_are(folder, tmp_path):
    x = np.hstack([np.linspace(-9, 9, 20_001), -np.geomspace(9, 1e30, 100), np.geomspace(9, 1e30, 100)]).astype(
        np.float32
    )
    binary = program(PROGRAMS / "activations.c", folder, tmp_path, "-O3", alone=True)
    found = np.loadtxt(run(binary, given="\n".join(f"{value:.9g}" for value in x)).splitlines())
    z = x.astype(np.float64)
    exact = [np.maximum(z, 0.0), z * special.ndtr(z), z * special.expit(z), np.tanh(z)]
    error = np.abs(found - np.column_stack(exact)) / np.maximum(np.abs(z), 1.0)[:, None]
    np.testing.assert_array_less(error.max(axis=0), [1e-8, 2e-7, 2e-7, 2e-7])
    assert not found[z < -9.0][:, :2].any()


def test_a_cells_result_does_not_depend_on_the_others(folder, tmp_path):
    model = random_model(cold_limit=500.0)
    step, states = in_c(model, folder, tmp_path), random_states(model.mechanism, 101)
    together, status = step.advance(states)
    for rows in (slice(0, 0), slice(0, 1), slice(7, 60), slice(None, None, -1)):
        alone, alone_status = step.advance(states[rows])
        np.testing.assert_array_equal(alone, together[rows])
        np.testing.assert_array_equal(alone_status, status[rows])


def program(source, folder, tmp_path, *options, compiler=COMPILERS and COMPILERS[0], alone=False):
    """A C program, built strictly with the exported source, or `alone` where it includes that."""
    binary = tmp_path / source.stem
    files = [source] if alone else [source, folder / "chemnet_step.c"]
    command = [compiler, *STRICT, "-O2", *options, f"-I{folder}", *files, "-o", binary, "-lm"]
    subprocess.run(list(map(str, command)), check=True)
    return binary


def run(binary, *arguments, cwd=None, given=None):
    command = list(map(str, [binary, *arguments]))
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, input=given, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_source_compiles_without_a_warning_and_tells_the_facts_of_its_model(compiler, folder, tmp_path):
    binary = program(PROGRAMS / "facts.c", folder, tmp_path, compiler=compiler)
    model, content = random_model(), (folder / "model.bin").read_bytes()
    lines = run(binary, folder / "model.bin").splitlines()
    mechanism = model.mechanism
    assert lines[:4] == [chemnet.__version__, "drm19", mechanism.sha256, content[-32:].hex()]
    assert float(lines[4]) == 1e-6 and lines[5] == "0 0 1 0"
    assert lines[6].split() == list(mechanism.species_names) and lines[7:9] == ["20 -1 1", "0"]
    assert lines[9:] == [
        "this model advances by dt = 1e-06 s and by nothing else, not by 2e-06 s",
        "this model is for the 21 species of drm19, not for 20",
        "species 0 (from 0) of this model, made for drm19, is H2, not H",
        "1 0 1",
    ]


def test_statuses_in_c_are_those_of_python():
    header = (c_export.SOURCES / "chemnet_step.h").read_text()
    codes = {name: int(code) for name, code in re.findall(r"CHEMNET_([A-Z]+) = (\d)[,\s]", header)}
    assert codes == {one.name: one.value for one in Status if one != Status.RETRIED}  # which only integrators give
    fortran = (c_export.SOURCES / "chemnet_step.f90").read_text()
    assert codes == {name.upper(): int(code) for name, code in re.findall(r"chemnet_([a-z]+) = (\d)", fortran)}


def test_order_and_check_of_a_model_are_those_of_its_hybrid_step(folder, tmp_path):
    binary = program(PROGRAMS / "facts.c", folder, tmp_path)
    for calm_first, told in (("never", "0 0"), ("usual", "1 0"), ("widest", "2 1")):
        (tmp_path / "model.bin").write_bytes(
            c_export.model_bytes(random_model(calm_first=calm_first, cold_limit=700.0))
        )
        assert run(binary, tmp_path / "model.bin").splitlines()[5] == f"700 0 {told}"


def damaged(content):
    """Files that are no model, by what is wrong."""
    rng = np.random.default_rng(0)
    flipped = []
    for at in rng.integers(20, len(content), 5):
        changed = bytearray(content)
        changed[at] ^= 1 << rng.integers(8)
        flipped.append(bytes(changed))
    return {
        "no model file": [b"", b"chemnetC", b"no model" * 100, content[1:]],
        "an incomplete model file": [content[:100], content[:-1], content + b"\0"],
        "a model file of format 2": [content[:8] + struct.pack("<I", 2) + content[12:]],
        "a damaged model file": flipped,
    }


def test_files_that_are_no_whole_model_are_refused_with_the_reason(folder, tmp_path):
    library, file = folder / "libchemnet_step.so", tmp_path / "model.bin"
    for reason, contents in damaged((folder / "model.bin").read_bytes()).items():
        for content in contents:
            file.write_bytes(content)
            with pytest.raises(FileError, match=f"^{re.escape(str(file))}: {reason}"):
                CompiledStep(load_mechanism(), library, file)
    for path in (tmp_path / "missing.bin", tmp_path):
        with pytest.raises(FileError, match="there is no such file, or it cannot be read"):
            CompiledStep(load_mechanism(), library, path)


def lying(content):
    """Files with a right checksum and a number that is not: as many as there are places for one, near the beginning."""
    for at in range(20, 1400, 4):
        for number in (0, 7, 29_999, 2**32 - 1):
            changed = content[:at] + struct.pack("<I", number) + content[at + 4 : -32]
            yield changed + c_export.digest(changed)


@pytest.mark.parametrize(
    "compiler", [pytest.param(name, marks=pytest.mark.slow) if name == "clang" else name for name in COMPILERS]
)
def test_address_and_undefined_behaviour_sanitizers_find_nothing(compiler, folder, tmp_path):
    """In the check's step, in loading files that are damaged, and such as pass the checksum and lie."""
    sanitize = ("-g", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    run(program(folder / "check.c", folder, tmp_path, *sanitize, compiler=compiler), cwd=folder)
    content, files = (folder / "model.bin").read_bytes(), []
    wrong = [one for contents in damaged(content).values() for one in contents]
    for i, one in enumerate([*wrong, *list(lying(content))[::5], content]):
        files.append(tmp_path / f"{i}.bin")
        files[-1].write_bytes(one)
    lines = run(program(PROGRAMS / "load_files.c", folder, tmp_path, *sanitize, compiler=compiler), *files).splitlines()
    assert len(lines) == 2 * len(files) and lines[-2:] == ["loaded", "read"]
    assert not {"loaded", "read"} & set(lines[: 2 * len(wrong)])


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_thread_sanitizer_finds_nothing_in_two_threads_with_one_model(compiler, folder, tmp_path):
    plus = {"gcc": "g++", "clang": "clang++"}[compiler]
    if shutil.which(plus) is None:
        pytest.skip(f"needs {plus}")
    sanitize = ["-g", "-O1", "-fsanitize=thread"]
    subprocess.run(
        [compiler, *STRICT, *sanitize, "-c", "chemnet_step.c", "-o", tmp_path / "step.o"], cwd=folder, check=True
    )
    linked = [plus, "-std=c++11", *sanitize, "-pthread", "example.cpp", tmp_path / "step.o", "-o", tmp_path / "two"]
    subprocess.run(linked, cwd=folder, check=True)
    assert "4 left to an integrator" in run(tmp_path / "two", cwd=folder)


def test_a_solver_that_traps_floating_point_exceptions_is_not_killed_and_still_traps_after_it(folder, tmp_path):
    binary = program(PROGRAMS / "trapping.c", folder, tmp_path, "-march=native", "-O1")
    assert run(binary, folder / "model.bin").split() == ["1", "0", "3", "0", "1"]


def test_the_folder_builds_by_its_makefile_and_its_check_and_examples_run(folder):
    """In a folder with a space in its name."""
    made = run("make", "-C", folder, f"CC={COMPILERS[0]}", "CFLAGS=-std=c99 -Werror -O2", "check")
    assert "28 cells, 4 left to an integrator, 0 statuses differ" in made
    if shutil.which("g++") is None or shutil.which("gfortran") is None:
        pytest.skip("needs g++ and gfortran")
    run("make", "-C", folder, "CFLAGS=-std=c99 -O2", "CXX=g++ -Werror", "FC=gfortran -Werror", "examples")
    first = [run(folder / name, cwd=folder).splitlines() for name in ("example_cpp", "example_fortran")]
    for lines in first:
        assert re.match(r"drm19: 28 cells, 4 left to an integrator; T changes by up to \d", lines[0])
        assert [line.split(": ")[1] for line in lines[1:]] == [line.split(": ")[1] for line in first[0][1:]]


def test_a_compiler_without_vector_types_computes_the_same(folder, tmp_path):
    told = run(program(folder / "check.c", folder, tmp_path, "-DCHEMNET_SCALAR"), cwd=folder)
    assert "28 cells, 4 left to an integrator, 0 statuses differ" in told


def test_a_build_that_computes_something_else_fails_its_check(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    other = random_model(activation="tanh")
    (tmp_path / "copy" / "model.bin").write_bytes(c_export.model_bytes(other))
    binary = program(folder / "check.c", folder, tmp_path)
    done = subprocess.run([binary], cwd=tmp_path / "copy", capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "0 statuses differ" in done.stdout


def test_an_earlier_export_is_replaced_only_when_asked_and_other_folders_never(tmp_path, capsys):
    out = tmp_path / "for c"
    command = ["export", "drm19-small", "--to", "c", "--out", str(out)]
    assert cli.main(command) == 0
    assert {file.name for file in out.iterdir()} == set(c_export.FILES)
    text = (out / "README.md").read_text()
    assert "# drm19 by a network" in text and "$" not in text
    (out / "README.md").write_text("mine")
    (out / "libchemnet_step.so").write_text("built")
    assert cli.main(command) == 2
    assert "is there already\nChoose another --out, or replace it with --overwrite." in capsys.readouterr().err
    assert (out / "README.md").read_text() == "mine"
    assert cli.main([*command, "--overwrite"]) == 0
    assert (out / "README.md").read_text() == text
    (out / "solver.c").write_text("mine")
    assert cli.main([*command, "--overwrite"]) == 2
    assert "holds more than an export, solver.c for one" in capsys.readouterr().err
    assert (out / "solver.c").read_text() == "mine"
