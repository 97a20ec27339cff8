"""What is shipped: one version everywhere, requirements that install without MPI, pins, and data in the wheel."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest
from tracked import ROOT, tracked

import chemnet


def requirements(extra=None):
    """Names that the package asks for, in lower case: the required ones, or those of an extra."""
    marker = f'extra == "{extra}"' if extra else None
    lines = metadata.requires("chemnet")
    chosen = [line for line in lines if (marker in line if marker else "extra ==" not in line)]
    return {re.match(r"[\w.\-]+", line).group().lower() for line in chosen}


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.lower().split("==") for line in lines if not line.startswith("#"))


def test_package_metadata_and_citation_have_the_version_of_the_module():
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert metadata.version("chemnet") == chemnet.__version__ == citation.group(1)


def test_the_required_packages_hold_no_mpi_and_the_extras_add_it():
    required = requirements()
    assert {"torch", "cantera", "numba", "numpy", "h5py"} <= required
    assert not {"mpi4py", "mpich", "matplotlib", "onnx", "pytest"} & required
    assert requirements("mpich") == {"mpi4py", "mpich"} and requirements("mpi") == {"mpi4py"}


def test_every_direct_requirement_is_pinned_for_the_tested_set():
    asked = requirements().union(
        *(requirements(extra) for extra in ("mpich", "plot", "onnx", "vision", "baselines", "docs", "test"))
    )
    assert asked <= set(pins())
    assert pins()["torch"] == "2.13.0"


def test_no_message_or_page_advises_to_install_chemnet_from_an_index():
    paths = [
        ROOT / "README.md",
        *tracked("chemnet/**/*.py"),
        *tracked("chemnet/**/*.md"),
        *tracked("cfd_coupling/**/*"),
    ]
    wrong = re.compile(r"pip install[^\n:`]*[ '\"]chemnet\b")
    assert [path.name for path in paths if path.suffix in (".py", ".md") and wrong.search(path.read_text())] == []


def test_exported_names_can_be_loaded_and_an_unknown_one_is_an_attribute_error():
    assert chemnet.load_mechanism("drm19").n_species == 21
    assert set(chemnet.__all__) == set(dir(chemnet))
    for name in chemnet.__all__:
        assert getattr(chemnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Reactor'"):
        getattr(chemnet, "Reactor")  # noqa: B009


def test_import_of_the_package_loads_nothing_heavy():
    heavy = {"torch", "cantera", "numba", "h5py", "scipy", "numpy", "pydantic", "matplotlib"}
    code = f"import sys, chemnet; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_called_chemnet_such_as_the_clone_is_not_taken_for_the_package(tmp_path):
    (tmp_path / "chemnet").mkdir()
    command = [sys.executable, "-c", "from chemnet import __version__; print(__version__)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == chemnet.__version__


@pytest.fixture
def checkout(tmp_path):
    """A small repository with the project's Makefile, a tracked module, and what a user has put beside it."""
    (tmp_path / "chemnet").mkdir()
    (tmp_path / ".venv").mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("chemnet/ours.py", "chemnet/gone.py", "chemnet/theirs.py", "inference.py"):
        (tmp_path / name).write_text("import os\n")
    (tmp_path / ".venv" / ".ready").touch()
    for words in ("init --quiet", "add Makefile chemnet/ours.py chemnet/gone.py"):
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)
    (tmp_path / "chemnet" / "gone.py").unlink()
    return tmp_path


@pytest.mark.skipif(not (shutil.which("git") and shutil.which("make")), reason="needs git and make")
@pytest.mark.parametrize("target", ["lint", "format"])
def test_lint_looks_at_what_is_tracked_and_without_git_at_all(checkout, target):
    def seen(folder):
        command = ["make", "--dry-run", "--no-print-directory", target]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout

    checks = [line for line in seen(checkout).splitlines() if "/ruff " in line or "/mypy" in line]
    assert len(checks) == {"lint": 3, "format": 2}[target]
    assert all(line.endswith(" chemnet/ours.py") for line in checks)
    shutil.rmtree(checkout / ".git")
    assert re.search(r"ruff check .*\.$", seen(checkout), re.MULTILINE)


def test_tests_walk_over_what_is_tracked_and_without_git_over_all(checkout):
    assert tracked("chemnet/**/*.py", checkout) == [checkout / "chemnet/ours.py"]
    shutil.rmtree(checkout / ".git")
    assert len(tracked("chemnet/**/*.py", checkout)) == 2


@pytest.mark.slow
def test_the_wheel_carries_mechanism_model_configs_cases_and_recipes(tmp_path):
    """Builds a wheel (needs setuptools from the index): pytest -m slow tests/test_package.py"""
    skip = shutil.ignore_patterns(".venv", ".git", "runs", "*.h5", "build", "*.egg-info", ".*_cache")
    source = shutil.copytree(ROOT, tmp_path / "source", ignore=skip)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shared = f"chemnet-{chemnet.__version__}.data/data/share/chemnet"
    for expected in (
        "chemnet/gas/mechanisms/drm19.yaml",
        "chemnet/surrogate/pretrained/drm19-small.safetensors",
        "chemnet/surrogate/c/network.c",
        "chemnet/training/configs/quick.yaml",
        "chemnet/vision/configs/short.yaml",
        "chemnet/vision/comparisons/short.yaml",
        "cfd_coupling/__main__.py",
        f"{shared}/constraints.txt",
        f"{shared}/cases/turbulent_ignition/case.yaml",
        f"{shared}/datasets/drm19/recipe.yaml",
    ):
        assert expected in names
    assert any(name.startswith("chemnet/reduction/stage_sets/") for name in names)
