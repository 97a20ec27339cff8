"""Caches of libraries: in their usual folders, or, where those cannot be written to, in a temporary one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNEL = """
from chemnet.runtime import compilation

# numba tries folders by writing to them, which root may do anywhere: here only some count
from numba.core.caching import _CacheLocator
import os, tempfile
tried = _CacheLocator.ensure_cache_path
def ensure(self):
    if not self.get_cache_path().startswith(tuple(os.environ["WRITABLE"].split(os.pathsep))):
        raise PermissionError(13, "Permission denied")
    tried(self)
_CacheLocator.ensure_cache_path = ensure

@compilation.cached_njit()
def f():
    return 3

print(f(), sum(f.stats.cache_hits.values()), *compilation.cache_folder())
"""


def python(code, folder, **changes):
    """Standard output and error of a new process with changes of its environment."""
    (folder / "program.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **changes}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_kernels_are_kept_in_a_temporary_folder_where_no_other_can_be_written_to(tmp_path):
    there = {"TMPDIR": str(tmp_path), "WRITABLE": str(tmp_path / "chemnet")}
    for hits in (0, 1):  # the second process finds what the first one has compiled
        out, err = python(KERNEL, tmp_path, **there)
        home = tmp_path / f"chemnet-{os.getuid()}"
        assert out.split()[:2] == ["3", str(hits)]
        assert out.split()[2].startswith(str(home)) and out.split()[3] == "True"
        assert len(err.splitlines()) == 1 and str(home) in err
    assert home.stat().st_mode & 0o077 == 0


def test_kernels_are_compiled_and_not_kept_where_nothing_can_be_written_to(tmp_path):
    out, err = python(KERNEL.replace("import os, tempfile", NO_TEMPORARY), tmp_path, WRITABLE="/nowhere")
    assert out.split() == ["3", "0", "None", "True"]
    assert "compiled anew by each process" in err and len(err.splitlines()) == 1


NO_TEMPORARY = """import os, tempfile
def refuse():
    raise FileNotFoundError(2, "No usable temporary directory found")
tempfile.gettempdir = refuse
"""


def test_other_ranks_and_workers_do_not_repeat_the_message(tmp_path):
    there = {"TMPDIR": str(tmp_path), "WRITABLE": str(tmp_path / "chemnet")}
    assert python(KERNEL, tmp_path, **there, PMI_RANK="1", PMI_SIZE="2")[1] == ""


def test_a_folder_that_another_user_could_have_written_to_is_not_used(tmp_path):
    (tmp_path / f"chemnet-{os.getuid()}").mkdir()
    (tmp_path / f"chemnet-{os.getuid()}").chmod(0o777)
    code = "from chemnet.runtime.caches import temporary_cache; print(temporary_cache())"
    (folder,) = python(code, tmp_path, TMPDIR=str(tmp_path))[0].splitlines()
    assert Path(folder).parent == tmp_path and Path(folder).name != f"chemnet-{os.getuid()}"
    assert Path(folder).stat().st_mode & 0o077 == 0


NO_HOME = "import os; os.path.expanduser = lambda path: path\n"  # as for a user whom no file of the system names


@pytest.mark.parametrize("home", ["read-only", "none"])
def test_matplotlib_without_a_home_keeps_its_fonts_in_the_temporary_folder(tmp_path, home):
    code = "import chemnet.runtime.drawing, matplotlib; print(matplotlib.get_cachedir())"
    given = {name: "" for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    code, given["HOME"] = (code, "/dev/null") if home == "read-only" else (NO_HOME + code, "/nowhere")
    out, err = python(code, tmp_path, TMPDIR=str(tmp_path), **given)
    assert out.strip() == str(tmp_path / f"chemnet-{os.getuid()}" / "matplotlib")
    assert len(err.splitlines()) == 1 and not (tmp_path / "~").exists()


def test_kernels_without_a_home_make_no_folder_of_the_name_of_one(tmp_path):
    there = {"TMPDIR": str(tmp_path), "WRITABLE": os.pathsep.join(["~", str(tmp_path / "chemnet")])}
    out, _ = python(NO_HOME + KERNEL, tmp_path, **there, XDG_CACHE_HOME="", NUMBA_CACHE_DIR="")
    assert out.startswith("3 0") and str(tmp_path / "chemnet-") in out and not (tmp_path / "~").exists()


def test_matplotlib_with_a_home_is_left_alone(tmp_path):
    code = "import os; import chemnet.runtime.drawing, matplotlib; print(matplotlib.get_cachedir())"
    given = {name: "" for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    out, err = python(code, tmp_path, HOME=str(tmp_path), **given)
    assert out.strip() == str(tmp_path / ".cache" / "matplotlib")
    assert "caches" not in err
