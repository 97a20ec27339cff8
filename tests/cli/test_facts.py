"""What `chemnet info` says first, numbers in JSON that stay numbers, and reports of commands in one file."""

import json

import pytest
from tiny_model import save_tiny_model

from chemnet.cli.facts import describe
from chemnet.cli.main import main
from chemnet.runtime.errors import FileError
from chemnet.runtime.run_folder import finish_run


def titles(tables):
    return [table.title for table in tables]


def test_a_model_is_told_by_what_it_burns_its_errors_how_it_was_made_and_its_domain():
    tables = describe("h2")
    assert titles(tables)[1:] == ["its errors and costs, by its validation", "how it was made", "its domain"]
    facts = dict(tables[0].rows)
    assert [name for name, _ in tables[0].rows[:5]] == ["fuel [mol]", "oxidizer [mol]", "phi", "P [atm]", "mechanism"]
    assert (facts["fuel [mol]"], facts["species"], facts["weights without biases"]) == ("H2 1", 10, 35840)
    assert facts["P [atm]"] == pytest.approx((0.5, 5.0), rel=1e-6, abs=0.0)
    assert dict(tables[1].rows)["failed ignitions"] == 0
    error = dict(tables[2].rows)["error of quick ignition delays [%]"]
    assert error == pytest.approx(0.2176, rel=1e-3, abs=0.0)
    everything = dict(describe("h2", everything=True)[-1].rows)
    assert everything["config.fit.optimizer"] == "muon" and everything["quick_delay_error"] == pytest.approx(
        0.01 * error
    )


def test_a_model_that_says_nothing_of_itself_has_no_empty_tables(tmp_path):
    tables = describe(save_tiny_model(tmp_path / "model.safetensors", 1e-6))
    assert titles(tables)[1:] == ["its domain"] and dict(tables[0].rows)["mechanism"] == "drm19"


def test_a_mechanism_is_told_by_its_size_and_by_what_can_be_done_with_it():
    (table,) = describe("h2o2.yaml")
    assert [name for name, _ in table.rows[:6]] == [
        *("species", "reactions", "elements", "exact integrator", "flames", "models that ship for it")
    ]
    facts = dict(table.rows)
    assert (facts["species"], facts["exact integrator"], facts["flames"]) == (10, "covers it", "yes")
    assert facts["models that ship for it"] == "h2" and facts["inert species"] == "AR N2"
    assert dict(describe("nDodecane_Reitz.yaml#nDodecane_IG")[0].rows)["flames"].startswith("no: ")


def test_a_run_is_told_by_its_kind_and_end_and_an_unfinished_one_by_where_it_is(tmp_path):
    finish_run(tmp_path, "training", "quick", {"config": {"a": 1}, "quick_delay_error": 0.0125, "steps": 40})
    table = describe(str(tmp_path))[0]
    assert [name for name, _ in table.rows[:4]] == ["kind", "name", "finished", "steps"]
    assert dict(table.rows)["error of quick ignition delays [%]"] == pytest.approx(1.25, rel=1e-12, abs=0.0)
    assert not any(name.startswith("config") for name, _ in table.rows)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(FileError, match="holds no run"):
        describe(str(tmp_path))
    (tmp_path / "loss.csv").write_text("step,training_loss,validation_loss\n0,nan,2.0\n10,0.5,1.5\n")
    facts = dict(describe(str(tmp_path))[0].rows)
    assert (facts["finished"], facts["step"], facts["validation loss"]) == ("no", 10.0, 1.5)
    assert facts["go on"].endswith(f"--out {tmp_path} --resume")


def test_no_number_of_the_tables_is_a_string_in_json(tmp_path, capsys):
    for command in (["info", "h2", "--all"], ["info", "drm19"]):
        assert main([*command, "--json", "-"]) == 0
        shown = capsys.readouterr()
        values = [
            value
            for table in json.loads(shown.out)["tables"]
            for row in table["rows"]
            for name, value in row.items()
            if isinstance(value, str) and row.get("fact") not in ("elements",)
        ]
        assert values and not [value for value in values if is_number(value)]


def is_number(text):
    try:
        float(text.replace(",", "").removesuffix("%"))
    except ValueError:
        return False
    return True


def test_json_to_standard_output_is_alone_there(tmp_path, capsys):
    (tmp_path / "steps.yaml").write_text("temperatures: [1500]\nequivalence_ratios: [1]\nsteps: 200\n")
    cases = ["--cases", str(tmp_path / "steps.yaml"), "--check", "ignition", "--mechanism", "h2o2.yaml", "--fuel", "H2"]
    assert main(["validate", "exact", *cases, "--json", "-"]) == 0
    shown = capsys.readouterr()
    assert [table["title"] for table in json.loads(shown.out)["tables"]][-1] == "the validation of exact"


def test_a_validation_leaves_a_page_of_one_file_with_its_picture_and_several_are_compared_in_one(tmp_path, capsys):
    (tmp_path / "two.yaml").write_text("temperatures: [1500, 1700]\nequivalence_ratios: [1]\nsteps: 300\n")
    cases = ["--cases", str(tmp_path / "two.yaml"), "--check", "ignition", "--mechanism", "h2o2.yaml", "--fuel", "H2"]
    files = {name: str(tmp_path / name) for name in ("page.html", "one.json", "both")}
    command = ["validate", "exact", *cases, "--report", files["page.html"], "--json", files["one.json"]]
    assert main(command) == 0
    page, markdown = (tmp_path / "page.html").read_text(), (tmp_path / "page.md").read_text()
    assert page.count("data:image/png;base64,") == 1 and 'src="' not in page.replace('src="data:', "")
    for words in ("ignition delay by case", "the validation of exact", "chemnet validate exact"):
        assert words in page and words in markdown
    assert "![" in markdown and "(page.png)" in markdown
    assert main([*command[:-2], "--quick"]) == 2
    assert "page.html is there already" in capsys.readouterr().err
    assert main(["compare", "validation", files["one.json"], "--report", files["both"]]) == 0
    assert "validations side by side" in (tmp_path / "both.html").read_text()
    assert f"report: {tmp_path / 'both.md'}, {tmp_path / 'both.html'}" in capsys.readouterr().out
