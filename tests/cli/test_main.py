"""The command line: immediate help, exit codes, short messages, JSON for every table, and the README's commands."""

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chemnet import __version__
from chemnet.cli.arguments import atmospheres
from chemnet.cli.facts import loss_tables
from chemnet.cli.main import build_parser, main
from chemnet.runtime.tables import Table

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    *(
        "sample",
        "train",
        "refine",
        "reduce",
        "validate",
        "bench",
        "export",
        "edit",
        "guard",
        "compare",
        "plot",
        "vision",
        "info",
    ),
    "doctor",
)
GROUPS = {
    "validate": ("model", "exact"),
    "bench": ("model", "exact", "training"),
    "compare": ("flow", "validation", "methods"),
    "vision": ("train", "reduce", "condense", "compare", "bench"),
}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *([name, "--help"] for name in COMMANDS),
        *([group, name, "--help"] for group, names in GROUPS.items() for name in names),
    ],
)
def test_help_loads_no_heavy_library(arguments):
    heavy = {"torch", "cantera", "numba", "h5py", "scipy", "numpy", "pydantic", "matplotlib"}
    code = f"""
import sys
from chemnet.cli.main import main
try:
    main({arguments})
except SystemExit as end:
    assert end.code == 0
print(sorted({heavy} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_command_and_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(re.search(rf"^\s+{name}\s+\S", text, re.MULTILINE) for name in COMMANDS)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"chemnet {__version__}\n"


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        ([], 2, "required: COMMAND"),
        (["trian"], 2, "did you mean train?"),
        (["vision"], 2, "required: COMMAND"),
        (["vision", "train"], 2, "required: --data"),
        (["vision", "train", "--data", "no/such"], 4, "no images at no/such"),
        (["vision", "train", "--data", "x.npz", "--config", "shrt"], 2, "no config shrt; did you mean short?"),
        (["vision", "train", "--data", "x.npz", "--set", "stepz=3"], 2, "did you mean steps?"),
        (["vision", "reduce", "no/such", "--data", "x.npz"], 4, "no classifier no/such"),
        (["vision", "condense", "no/such", "--data", "x.npz", "--ratio", "0.5"], 4, "no classifier no/such"),
        (["vision", "condense", "m", "--data", "x.npz", "--ratio", "1.5"], 2, "'1.5' is not a share in (0, 1]"),
        (["vision", "compare", "--data", "x.npz", "--comparison", "c.yaml"], 4, "c.yaml"),
        (["vision", "train", "--data", "x.npz", "--max-minutes", "-1"], 2, "'-1' is not a positive number"),
        (["vision", "bench", "no.pt", "--batch", "0"], 2, "'0' is not a positive whole number"),
        (["vision", "bench", "no.pt"], 4, "no classifier no.pt"),
        (["plot", "steps", "."], 4, "holds no automatic reduction"),
        (["info"], 2, "one of the arguments WHAT --models is required"),
        (["export", "drm19-small", "--to", "chemnet"], 2, "invalid choice: 'chemnet'"),
        (["edit", "drm19-small", "--out", "m", "--calm-limit", "-1"], 2, "a limit of -1"),
        (["compare", "methods", "c.yaml"], 4, "c.yaml"),
        (["info", "nothing-of-the-kind"], 4, "neither a file nor a folder"),
        (["info", "."], 4, "holds no run"),
        (["validate", "model", "no-model"], 4, "no-model"),
        (["validate", "model", "drm19-smal"], 4, "no model drm19-smal; did you mean drm19-small?"),
        (["validate", "model", "--quick", "--check", "ignitoin"], 2, "no check ignitoin; did you mean ignition?"),
        (["info", "DRM19-small"], 4, "did you mean drm19-small?"),
        (["info", "gri3.yaml"], 4, "did you mean gri30.yaml?"),
        (["export", "drm-19-small", "--to", "onnx"], 4, "did you mean drm19-small?"),
        (["train", "--ovewrite"], 2, "did you mean --overwrite?"),
        (["plot", "losses", "x", "--out", "y"], 2, "unrecognized arguments: --out y\nTry: chemnet plot --help"),
        (["sample", "--fuel", "ch4"], 2, "no species ch4 in drm19; did you mean CH4?"),
        (["bench", "exact", "--mechanism", "h2o2.yaml", "--fuel", "HO3"], 2, "did you mean HO2?"),
        (["make", "--mechanism", "h2o2.yaml", "--fuel", "h2"], 2, "no species h2 in h2o2.yaml; did you mean H2?"),
        (["bench", "exact", "--states", "flam"], 2, "no states flam; did you mean flame?"),
        (["edit", "drm19-small", "--out", "m", "--engine", "bf61"], 2, "no engine bf61; did you mean bf16?"),
        (["reduce", "drm19-small", "--stages", "papr"], 2, "no stages papr; did you mean paper?"),
        (["compare", "methods", "quik"], 2, "no comparison quik; did you mean quick?"),
        (["validate", "model", "--quick", "--set", "stepps=5"], 2, "did you mean steps?"),
        (["validate", "model", "--quick", "--set", "steps=0"], 2, "steps"),
        (["validate", "model", "--quick", "--set", "steps"], 2, "expected key=value"),
        (["validate", "exact", "--cases", "missing.yaml"], 4, "missing.yaml"),
        (["bench", "model", "--cells", "0"], 2, "'0' is not a positive whole number"),
        (["bench", "model", "--cells", "many"], 2, "'many' is not a positive whole number"),
        (["bench", "model", "no-model", "--cells", "5"], 4, "no-model"),
        (["bench", "drm19-small"], 2, "for a model: chemnet bench model drm19-small"),
        (["bench", "model", "--mechanism", "h2o2.yaml"], 2, "unrecognized arguments: --mechanism"),
        (["bench", "training", "--config", "smal"], 2, "no config smal; did you mean small?"),
        (["bench", "exact", "--states", "warm"], 2, "no states warm; there are flame, mixed"),
        (["bench", "exact", "--mechanism", "h2o2.yaml", "--fuel", "CH4:1"], 2, "no species CH4"),
        (["bench", "exact", "--fuel", "CH4:much"], 2, "'CH4:much' is not a mixture such as"),
        (["bench", "exact", "--fuel", "CH4:1,H2"], 2, "'CH4:1,H2' is not a mixture such as"),
        (["bench", "exact", "--fuel", "CH4:-1"], 2, "amounts are positive"),
        (["bench", "exact", "--mechanism", "h2o3.yaml"], 2, "no mechanism h2o3.yaml"),
        (["sample", "--variant", "quik"], 2, "did you mean quick?"),
        (["sample", "--set", "rosw=5"], 2, "did you mean rows?"),
        (["sample", "--mechanism", "h2o3.yaml", "--fuel", "H2"], 2, "no mechanism h2o3.yaml"),
        (["sample", "--mechanism", "h2o2.yaml"], 2, "no species CH4 in h2o2.yaml"),
        (["sample", "--fuel", "XX"], 2, "no species XX in drm19"),
        (["sample", "--oxidizer", "O2:0"], 2, "amounts are positive"),
        (["sample", "--workers", "-1"], 2, "'-1' is not a positive whole number"),
        (["train", "--config", "drm91"], 2, "no config drm91; did you mean drm19?"),
        (["train", "--config", "mine"], 2, "there are drm19, paper, quick, small\nOr give the path"),
        (["train", "--config", "quick", "--set", "fit.stpes=3"], 2, "did you mean steps?"),
        (["train", "--config", "quick", "--data", "missing.h5"], 4, "no training set missing.h5"),
        (["reduce"], 4, "First: chemnet train --config drm19"),
        (["reduce", "--config", "quick", "--stage", "1"], 4, "First: chemnet train --config quick"),
        (["reduce", "no-model", "--stage", "1"], 4, "no-model"),
        (["train", "--max-minutes", "0"], 2, "'0' is not a positive number"),
        (["train", "--scan-rates", "1e-3", "fast"], 2, "'fast' is not a positive number"),
        (["train", "--scan-rates", "--resume"], 2, "starts every training anew"),
        (["plot", "losses", "nowhere"], 4, "nowhere holds no training"),
        (["plot", "pareto", "nowhere"], 4, "nowhere holds no comparison"),
        (["plot", "loses", "nowhere"], 2, "invalid choice: 'loses'"),
        (["compare", "flow", "one"], 2, "two run folders"),
        (["compare", "flow", "one", "two"], 4, "one"),
    ],
)
def test_mistakes_end_with_their_exit_code_and_a_short_message(tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.splitlines()) <= 3 and "Traceback" not in shown.err
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_and_a_file_of_another_kind_are_named(tmp_path, capsys):
    contents = {"states.h5": b"\x89HDF\r\n\x1a\n and then nothing", "notes.yaml": b"remark: no phases here\n"}
    for (name, content), code, message in zip(contents.items(), (4, 2), ("no training set", "notes.yaml"), strict=True):
        (tmp_path / name).write_bytes(content)
        assert main(["info", str(tmp_path / name)]) == code
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("target, made", [("onnx", "drm19-small.onnx"), ("deepflame", "drm19-small-deepflame")])
def test_an_export_goes_to_the_folder_of_runs(tmp_path, monkeypatch, target, made):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "drm19-small", "--to", target]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [made]


def test_a_picture_without_matplotlib_names_the_command_that_installs_it(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for command in (["compare", "flow", "one", "two"], ["bench", "exact"]):
        assert main([*command, "--picture", "a.png"]) == 2
        assert "pip install matplotlib" in capsys.readouterr().err
    assert main(["compare", "flow", "one", "two"]) == 4  # the table alone needs none


def test_the_losses_of_a_run_and_its_stages_are_drawn(tmp_path, capsys):
    for folder, steps in (("", 300), ("stage-2", 200), ("stage-10", 100)):
        (tmp_path / folder).mkdir(exist_ok=True)
        rows = "".join(f"{step},{1 / (step + 1)},{2 / (step + 1)},0.1,64,1.0\n" for step in range(0, steps, 10))
        header = "step,training_loss,validation_loss,learning_rate,batch_size,seconds\n"
        (tmp_path / folder / "loss.csv").write_text(header + rows)
    assert list(loss_tables(tmp_path)) == ["training", "stage 2", "stage 10"]
    assert main(["plot", "losses", str(tmp_path)]) == 0
    assert "losses.png" in capsys.readouterr().out
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{shlex.quote(sys.executable)} -m chemnet info drm19 | head -c 0; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_tables_are_printed_and_written_as_json(tmp_path, capsys):
    target = tmp_path / "out" / "info.json"
    assert main(["info", "drm19", "--json", str(target)]) == 0
    written = json.loads(target.read_text())
    assert written["chemnet"] == __version__ and written["command"].startswith("chemnet info drm19 --json")
    facts = {row["fact"]: row["value"] for row in written["tables"][0]["rows"]}
    assert (facts["species"], facts["reactions"], facts["inert species"]) == (21, 84, "N2 AR")
    printed = capsys.readouterr().out
    assert all(word in printed for value in facts.values() for word in str(value).split())


def test_a_json_file_that_cannot_be_written_is_a_file_error(tmp_path, capsys):
    assert main(["info", "drm19", "--json", str(tmp_path)]) == 4
    assert "Is a directory" in capsys.readouterr().err


def test_json_has_null_for_what_is_not_finite():
    table = Table("t", ("a", "b"), [(float("nan"), np.float64(np.inf)), (np.int64(3), 0.5)])
    assert json.loads(json.dumps(table.as_json(), allow_nan=False))["rows"] == [
        {"a": None, "b": None},
        {"a": 3, "b": 0.5},
    ]


@pytest.mark.parametrize("name, species", [("drm19", 21), ("h2o2.yaml", 10), ("gri30.yaml", 53)])
def test_info_recognises_a_mechanism_by_name(name, species, capsys):
    assert main(["info", name]) == 0
    assert re.search(rf"^species +{species}$", capsys.readouterr().out, re.MULTILINE)


def test_info_recognises_a_run_folder_by_its_manifest(tmp_path, capsys):
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "training", "options": {"seed": 3}}))
    assert main(["info", str(tmp_path), "--all"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"kind +training", text) and re.search(r"options\.seed +3", text)


def readme_commands():
    """Lines of the README's code blocks that call this project, without environment, launcher and comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if re.match(r"(mpiexec -n \d+ )?(chemnet|python -m cfd_coupling) ", line)]


@pytest.mark.parametrize("line", readme_commands())
def test_the_parsers_accept_the_commands_of_the_readme(line):
    words = shlex.split(line, comments=True)
    if "cfd_coupling" in words:
        from cfd_coupling.__main__ import parser

        assert parser().parse_args(words[words.index("cfd_coupling") + 1 :]).command
    else:
        assert callable(build_parser().parse_args(words[1:]).body)


@pytest.mark.parametrize(("text", "pascal"), [("1", 101325.0), ("0.5", 50662.5), ("2e1", 2026500.0)])
def test_pressures_are_given_in_atmospheres(text, pascal):
    assert atmospheres(text) == pytest.approx(pascal, rel=1e-15, abs=0.0)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "1bar"])
def test_what_is_no_pressure_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a positive number"):
        atmospheres(text)
