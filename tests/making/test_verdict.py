"""The verdict follows from the figures: what passes, within which limits, and when it says to use the exact step."""

import numpy as np
import pytest

from chemnet.making.verdict import EXACT, LIMITED, PASSED, columns_of, judge, passes

T0, P = (v.ravel() for v in np.meshgrid([1100.0, 1200.0, 1300.0], [0.5, 1.0, 2.0, 4.0]))


def cases(error, failed=False, end=0.0):
    """Twelve ignitions, three T0 at four pressures, with these errors of the delay [%]."""
    columns = {"T0": T0, "phi": np.ones(12), "P": P, "error": np.broadcast_to(error, 12)}
    return {**columns, "end": np.broadcast_to(end, 12), "failed": np.broadcast_to(failed, 12)}


def figures(found, **other):
    known = found["error"][np.isfinite(found["error"])]
    ignition = {
        "failed cases": int(found["failed"].sum()),
        "ignition delay error, mean [%]": float(known.mean()),
        "ignition delay error, max [%]": float(known.max()),
        "end temperature error, max [K]": float(found["end"].max()),
    }
    return {"ignition": ignition, **other}


def verdict(found, missing=None, **other):
    return judge(figures(found, **other), found, missing)


def test_figures_within_all_targets_pass_without_a_limit():
    flames = {"flame speed error at phi 1 [%]": 0.9}
    cost = {"flame front: exact / model": 3.0, "flame front: CVODES / model": 150.0}
    found = verdict(cases(0.4), flames=flames, cost=cost, cold={"mixtures that fail": 0})
    assert (found.word, list(found.limits)) == (PASSED, []) and all(target.met for target in found.targets)
    assert len(found.targets) == 7
    assert found.line() == "passed; a cell of a flame front costs 1/150 of CVODES and 1/3 of the exact step"


def test_what_is_integrated_and_what_misses_another_target_is_told():
    good = cases(0.4)
    cost = {f"flame front: {name}": 5.0 for name in ("exact / model", "CVODES / model", "integrated by the model [%]")}
    rows = [
        {"check": "cold", "figure": "false heat [K]", "value": 1272.0, "target": 5.0, "met": "no"},
        {"check": "ignition", "figure": "failed cases", "value": 0.0, "target": 0.0, "met": "no"},
        {"check": "flow", "figure": "front [%]", "value": None, "target": ">= 90", "met": "no"},
        {"check": "steps", "figure": "rows refused", "value": 7.0, "target": None, "met": "-"},
    ]
    found = judge(figures(good, cost=cost), good, None, rows)
    assert found.word == PASSED
    assert found.reasons[0].endswith("of the exact step, 5 % of them are integrated, not predicted")
    assert list(found.reasons[1:]) == [
        "cold: false heat [K] is 1.27e+03, usual is <= 5",
        "flow: front [%] is missing, usual is >= 90",
    ]


def test_a_model_whose_turbulent_flames_differ_is_not_for_them():
    T, area = "run, worst box: T, relative L2 [%]", "run, worst box: burnt area [%]"
    good = {"runs that fail": 0, T: 0.4, area: 0.2}
    assert (
        verdict(cases(0.4), flow=good).word == PASSED and passes("flow", good) and not passes("flow", {**good, T: 1.0})
    )
    found = verdict(cases(0.4), flow={**good, T: 18.0})
    assert (found.word, list(found.limits)) == (LIMITED, [f"not for turbulent flames (flow: {T} is 18, not <= 0.5)"])
    broken = verdict(cases(0.4), flow={"runs that fail": 1, T: None, area: None})
    assert broken.limits[0].startswith("not for turbulent flames (flow: runs that fail is 1, not <= 0, flow: run")


def test_without_flames_the_cost_is_that_of_cells_of_an_ignition():
    cost = {"ignition: exact / model": 12.0, "ignition: CVODES / model": 200.0}
    found = verdict(cases(0.4), {"flames": "no flame was checked"}, cost=cost)
    assert found.reasons == ["a cell of an ignition costs 1/200 of CVODES and 1/12 of the exact step"]
    assert verdict(cases(0.4), cost=dict.fromkeys(cost, 0.5)).word == EXACT


@pytest.mark.parametrize(("found", "good"), [(cases(0.4), True), (cases(2.5), False), (cases(0.1, failed=True), False)])
def test_ignitions_pass_by_themselves(found, good):
    assert passes("ignition", figures(found)["ignition"]) is good


def test_errors_at_one_pressure_limit_the_model_to_the_others():
    found = verdict(cases(np.where(P == 4.0, 2.5, 0.1)))
    assert found.word == LIMITED and found.limits[0] == "only for P 0.5 to 2 atm"


def test_errors_of_the_coldest_gas_limit_the_model_to_the_hotter():
    found = verdict(cases(0.1, failed=T0 == 1100.0))
    assert found.limits[0] == "only for T0 1200 to 1300 K"
    assert "ignition: failed cases is 4, not <= 0" in found.line()


def test_an_ignition_that_is_lost_is_no_limit_as_no_step_can_tell_where_its_gas_began():
    lost = cases(np.where(T0 == 1300.0, 8e4, 0.1))
    found = verdict(lost)
    assert (found.word, list(found.limits)) == (EXACT, [])
    assert found.reasons[0] == "4 of 12 ignitions are off by more than half"
    assert verdict(cases(np.where(T0 == 1300.0, 49.0, 0.1))).word == LIMITED


@pytest.mark.parametrize(
    "found", [cases(3.0), cases(0.1, failed=True), cases(0.1, end=6.0), cases(np.where(T0 == P * 1200.0, 0.1, 2.5))]
)
def test_errors_nearly_everywhere_say_to_use_the_exact_step(found):
    assert verdict(found).word == EXACT


@pytest.mark.parametrize(
    ("other", "limit"),
    [
        ({"flames": {"flame speed error at phi 1.3 [%]": 1.1}}, "flame speed error at phi 1.3 [%] is 1.1, not <= 1"),
        ({"flames": {"flame speed error at phi 1 [%]": None}}, "flame speed error at phi 1 [%] is missing"),
        ({"cold": {"mixtures that fail": 2}}, "mixtures that fail is 2, not <= 0"),
    ],
)
def test_other_figures_that_miss_their_target_are_limits(other, limit):
    found = verdict(cases(0.1), **other)
    assert found.word == LIMITED and limit in found.limits[0]


def test_a_check_that_could_not_be_made_is_a_limit():
    found = verdict(cases(0.1), {"flames": "no flame was checked (no transport data)"})
    assert found.line() == "passed with limits: no flame was checked (no transport data)"


def test_a_model_that_costs_more_than_the_exact_step_is_not_to_be_used():
    found = verdict(cases(0.1), cost={"flame front: exact / model": 0.5})
    assert (found.word, found.reasons[0]) == (EXACT, "the model costs 2 times the exact step")


def test_columns_of_cases_count_what_fails_and_what_only_the_reference_ignites():
    row = {"T0 [K]": 1200.0, "phi": 1.0, "P [atm]": 1.0, "error [%]": 0.2, "end T error [K]": 0.0}
    row |= {"reference [us]": 50.0, "model [us]": 50.1, "status": "ok"}
    lost = {**row, "model [us]": None, "error [%]": None}
    neither = {**lost, "reference [us]": None}
    columns = columns_of([row, {**row, "status": "outside"}, lost, neither])
    assert columns["failed"].tolist() == [False, True, True, False]
    np.testing.assert_array_equal(columns["error"], [0.2, 0.2, np.nan, np.nan])
