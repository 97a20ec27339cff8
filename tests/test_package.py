"""What is shipped: one version everywhere, requirements that install without MPI, pins, and data in the wheel."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import chemnet

ROOT = Path(__file__).resolve().parent.parent


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
        *(requirements(extra) for extra in ("mpich", "plot", "onnx", "vision", "baselines", "test"))
    )
    assert asked <= set(pins())
    assert pins()["torch"] == "2.13.0"


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
