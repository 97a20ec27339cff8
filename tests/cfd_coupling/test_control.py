"""Requests to a run: files, steps, clock and signals, with their exit codes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cfd_coupling import control
from cfd_coupling.control import Control, Request, Signals
from cfd_coupling.parallel import Communicator


class Clock:
    """Time that only moves when it is told."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(control, "time", clock)
    return clock


@pytest.mark.parametrize(("name", "request_"), [("STOP", Request.STOP), ("CHECKPOINT", Request.CHECKPOINT)])
def test_a_file_in_the_folder_is_a_request_once(tmp_path, name, request_):
    asked = Control(Communicator(), tmp_path)
    assert asked.agree(1) is Request.NONE
    (tmp_path / name).touch()
    assert [asked.agree(step) for step in (2, 3)] == [request_, Request.NONE]
    assert not list(tmp_path.iterdir())


def test_checkpoints_are_due_by_steps(tmp_path):
    asked = Control(Communicator(), tmp_path, every=3)
    assert [step for step in range(1, 10) if asked.agree(step) is Request.CHECKPOINT] == [3, 6, 9]


def test_checkpoints_are_due_by_the_clock_since_the_last_one(tmp_path, clock):
    asked, due = Control(Communicator(), tmp_path, minutes=1.0), []
    for step in range(1, 13):
        clock.now += 25.0
        if asked.agree(step) is Request.CHECKPOINT:
            due.append(step)
            asked.checkpointed()
    assert due == [3, 6, 9, 12]


def test_the_time_limit_leaves_time_for_one_more_of_the_slowest_steps(tmp_path, clock):
    asked = Control(Communicator(), tmp_path, max_minutes=2.0, start=clock.now - 30.0)
    for step, seconds in enumerate((20.0, 5.0, 5.0, 41.0), start=1):  # the limit is 90 s from here
        clock.now += seconds
        request = asked.agree(step)
        assert request is (Request.TIME_LIMIT if step == 4 else Request.NONE)


def test_the_weightiest_request_wins_and_has_its_exit_code(tmp_path):
    (tmp_path / "CHECKPOINT").touch()
    (tmp_path / "STOP").touch()
    assert Control(Communicator(), tmp_path, every=1).agree(1) is Request.STOP
    codes = {request.name: request.exit_code for request in Request}
    assert codes == {
        "NONE": 0, "CHECKPOINT": 0, "TIME_LIMIT": 75, "STOP": 75, "SIGUSR1": 75, "SIGTERM": 143, "SIGINT": 130,
    }  # fmt: skip
    assert [request.name for request in Request if not request.stops] == ["NONE", "CHECKPOINT"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_waits_for_the_end_of_a_step(tmp_path, name):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with Signals() as signals:
        signals.listen()
        asked = Control(Communicator(), tmp_path, signals=signals)
        assert asked.agree(1) is Request.NONE
        signal.raise_signal(signal.Signals[name])
        end = time.monotonic() + 10.0
        while signals.request is Request.NONE and time.monotonic() < end:
            time.sleep(0.001)
        assert asked.agree(2) is Request[name]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == handlers


PROGRAM = """
import hashlib, os, sys, time
from cfd_coupling.control import Signals

with Signals() as signals:
    signals.last_acts.append(lambda: os.write(1, b"tidied\\n"))  # sys.stdout may be in the midst of printing
    if sys.argv[1] == "start of MPI":
        print("ready", flush=True)
        time.sleep(0.5)
    signals.listen()
    if sys.argv[1] == "steps":
        signals.begin_steps()
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in C code that hears of no signal, as MPI does not
"""


@pytest.mark.parametrize(
    ("phase", "sent", "code", "words"),
    [
        ("start of MPI", ["SIGUSR1"], 75, "ended by SIGUSR1 before the first step"),
        ("set-up", ["SIGTERM"], 143, "ended by SIGTERM before the first step"),
        ("set-up", ["SIGUSR1"], 75, "ended by SIGUSR1 before the first step"),
        ("steps", ["SIGINT", "SIGTERM", "SIGINT"], 130, "ended by Ctrl-C without a checkpoint of this step"),
    ],
)
def test_in_the_set_up_a_signal_and_in_the_steps_a_second_ctrl_c_end_a_process_that_is_in_c_code(
    phase, sent, code, words
):
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, phase], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        for name in sent:
            assert process.poll() is None
            process.send_signal(signal.Signals[name])
            if len(sent) > 1:
                time.sleep(0.4)
        try:
            out, errors = process.communicate(timeout=10.0)
        finally:
            process.kill()
    assert process.returncode == code
    assert (out, errors.strip()) == ("tidied\n", words)


HOLDING = """
import hashlib, os, signal, threading
from cfd_coupling.control import Signals

held = threading.Lock()
with Signals() as signals:
    signals.last_acts.append(held.acquire)
    signals.listen()
    with held:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**6)  # some tenths of a second in which the thread takes the signal
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def test_the_main_thread_lets_go_of_what_the_last_acts_wait_for():
    """It would otherwise wait in its handler for the thread that waits for it, for ever."""
    result = subprocess.run([sys.executable, "-c", HOLDING], stderr=subprocess.PIPE, text=True, timeout=20.0)
    assert (result.returncode, result.stderr) == (143, "ended by SIGTERM before the first step\n")


def test_the_echo_of_a_ctrl_c_is_not_a_second_one():
    with Signals() as signals:
        signals.listen()
        signals.begin_steps()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
    assert signals.request is Request.SIGINT
