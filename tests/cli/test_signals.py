"""A command that is told to stop says how to go on, exits as the shell expects, and prints no traceback."""

import signal
import subprocess
import sys

import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from ik_e3nn.cli import app, main
from ik_e3nn_calculators import MDSettings, run_md

WAIT = """
import signal, sys, time
from ik_e3nn.cli import app

def wait(words):
    try:
        print("ready", flush=True)  # in the block, which the signal must not miss
        time.sleep(60)
    finally:
        if "slow" in sys.argv:
            print("cleaning", flush=True)
            time.sleep(60)

app._dispatch = wait
sys.exit(app.main(["md"]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_one_signal_ends_a_command_in_order_and_a_second_one_at_once(number, status):
    for words in ([], ["slow"]):
        command = [sys.executable, "-c", WAIT, *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            if words:
                assert process.stdout.readline() == "cleaning\n"
                process.send_signal(number)
            errors = process.communicate(timeout=30)[1]
        assert process.returncode == status
        assert "Traceback" not in errors
        assert ("interrupted" in errors) is not bool(words)


def test_a_closed_terminal_ends_a_command_as_ctrl_c_does():
    with pytest.raises(KeyboardInterrupt) as ended, app._signals():
        signal.raise_signal(signal.SIGHUP)
    assert ended.value.status == 129
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_so(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with app._signals():
            signal.raise_signal(number)
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_nobody_reads_what_a_closed_terminal_is_told(monkeypatch):
    def refuse(text):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(app, "_dispatch", lambda words: (_ for _ in ()).throw(app._Stopped(1)))
    monkeypatch.setattr(sys.stderr, "write", refuse)
    assert app.main(["md"]) == 129


def test_dynamics_says_how_to_go_on(tmp_path, caplog):
    class Stopping(EMT):
        calls = 0

        def calculate(self, *args, **kwargs):
            Stopping.calls += 1
            if Stopping.calls > 8:
                raise KeyboardInterrupt
            super().calculate(*args, **kwargs)

    settings = MDSettings("unused", steps=20, checkpoint_interval=4, output=str(tmp_path), progress=False, plots=False)
    with pytest.raises(KeyboardInterrupt):
        run_md(settings, atoms=Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.3]]), calculator=Stopping())
    assert "the same command with --restart continues from the last checkpoint, step 4" in caplog.text


@pytest.mark.parametrize("command", ["md", "relax"])
@pytest.mark.parametrize("option", ["--device=cuda", "--device=gpu", "--max_edges=0"])
def test_what_cannot_be_computed_with_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, command, option):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    steps = ["--steps=1"] if command == "md" else []
    assert main([command, "[He]", option, *steps, "-o", "out"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("ik-e3nn: error: ")
    assert len(message.splitlines()) == 1
    assert option.partition("=")[0].strip("-") in message
    assert list(tmp_path.iterdir()) == []
