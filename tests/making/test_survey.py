"""A look at a gas finds what Cantera finds: what burns, delays, flames, the hottest states; and says what it lacks."""

import cantera as ct
import numpy as np
import pytest

from chemnet.gas.canonical import AIR
from chemnet.gas.state import T_MAX
from chemnet.making.survey import EARLIEST_DELAY, LATEST_DELAY, notes_on_tables, survey
from chemnet.making.task import MakeTask
from chemnet.runtime.errors import UsageError

ATM = ct.one_atm


def look(**changes):
    task = {"mechanism": "h2o2.yaml", "fuel": {"H2": 1.0}, "pressure": (0.5 * ATM, 5.0 * ATM), **changes}
    return survey(MakeTask(**task), report=lambda line: None)


@pytest.fixture(scope="module")
def hydrogen():
    return look()


def test_mixtures_that_burn_are_those_that_cantera_makes_hotter_by_400_K(hydrogen):
    gas = ct.Solution("h2o2.yaml")
    for phi, burns in ((hydrogen.burns[0], True), (0.8 * hydrogen.burns[0], False), (1.3 * hydrogen.burns[1], False)):
        gas.set_equivalence_ratio(phi, "H2", AIR)
        gas.TP = 1000.0, 0.5 * ATM
        gas.equilibrate("HP")
        assert (gas.T > 1400.0) is burns
    assert hydrogen.phi == (0.5, 2.0)


@pytest.mark.parametrize("end", [0, 1])
def test_delays_at_both_ends_of_the_range_of_T0_can_be_shown_by_steps(hydrogen, end):
    """By Cantera, time of the steepest rise; the range is interpolated, to some per cent."""
    gas = ct.Solution("h2o2.yaml")
    delays = []
    for P in (0.5, 5.0):
        gas.set_equivalence_ratio(1.0, "H2", AIR)
        gas.TP = hydrogen.T0[end], P * ATM
        network = ct.ReactorNet([reactor := ct.IdealGasConstPressureReactor(gas, clone=False)])
        times, T = [0.0], [reactor.T]
        while network.time < 0.05:
            network.step()
            times.append(network.time)
            T.append(reactor.T)
        delays.append(times[1 + int(np.argmax(np.diff(T) / np.diff(times)))])
    assert min(delays) > 0.9 * EARLIEST_DELAY * 1e-6 and max(delays) < 1.1 * LATEST_DELAY * 1e-6


def test_the_hottest_kernel_burns_to_a_valid_temperature(hydrogen):
    gas = ct.Solution("h2o2.yaml")
    gas.set_equivalence_ratio(1.0, "H2", AIR)
    gas.TP = hydrogen.kernel, 5.0 * ATM
    gas.equilibrate("HP")
    assert T_MAX - 150.0 < gas.T < T_MAX


def test_flames_have_canteras_speed(hydrogen):
    gas = ct.Solution("h2o2.yaml")
    gas.transport_model = "mixture-averaged"
    gas.set_equivalence_ratio(1.0, "H2", AIR)
    gas.TP = 300.0, ATM
    flame = ct.FreeFlame(gas, width=0.02)
    flame.set_refine_criteria(ratio=3, slope=0.06, curve=0.12)
    flame.solve(loglevel=0, auto=True)
    assert hydrogen.flame_at(1.0).speed == pytest.approx(float(flame.velocity[0]), rel=0.05, abs=0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phi": (0.5, 30.0)}, r"phi 0.5 to 30: not all of these mixtures burn .*\nThose that do: --phi 0.16 15.58"),
        ({"oxidizer": {"O2": 1.0, "N2": 60.0}}, "no mixture of H2 with O2 and N2 gets hotter by 400 K"),
        ({"fuel": {"HO3": 1.0}}, "no species HO3 in h2o2.yaml; did you mean HO2"),
        ({"dt": 1e-12}, "no mixture ignites within 5 to 10000 steps of 1e-12 s"),
    ],
)
def test_a_gas_that_does_not_burn_as_asked_for_is_refused_with_a_way_out(changes, message):
    with pytest.raises(UsageError, match=message):
        look(**changes)


def with_reactions(path, change):
    """h2o2.yaml with changes of its species' facts and more reactions, as a file."""
    gas = ct.Solution("h2o2.yaml")
    species, more = change(gas)
    ct.Solution(thermo="ideal-gas", kinetics="gas", species=species, reactions=gas.reactions() + more).write_yaml(path)
    return str(path)


def test_pressures_beyond_the_tables_of_rates_are_noted(tmp_path):
    def change(gas):
        rates = "[{P: 1 atm, A: 2.2e+05, b: 1.51, Ea: 3430.0}, {P: 4 atm, A: 4.0e+05, b: 1.6, Ea: 3800.0}]"
        text = f"{{equation: OH + H2 <=> H + H2O, type: pressure-dependent-Arrhenius, rate-constants: {rates}}}"
        return gas.species(), [ct.Reaction.from_yaml(text, gas)]

    gas = ct.Solution(with_reactions(tmp_path / "plog.yaml", change))
    (note,) = notes_on_tables(gas, (0.5 * ATM, 5.0 * ATM))
    assert note.startswith("1 rates are tables over pressure that the range of 50662.5 to 506625 Pa exceeds")
    assert "from 101325 to 405300 Pa" in note
    assert notes_on_tables(gas, (1.0 * ATM, 4.0 * ATM)) == []


def test_a_mechanism_without_transport_data_goes_without_flames(tmp_path):
    def change(gas):
        facts = [{k: v for k, v in s.input_data.items() if k != "transport"} for s in gas.species()]
        return [ct.Species.from_dict(one) for one in facts], []

    found = look(mechanism=with_reactions(tmp_path / "bare.yaml", change), phi=(0.9, 1.1))
    assert found.flames == [] and "has no transport data: flames are left out" in found.without_flames
