"""Importing the package of trainings is cheap: torch and Lightning are loaded when something is trained."""

import subprocess
import sys


def test_settings_are_imported_without_torch() -> None:
    code = (
        "import sys, ik_e3nn.training; print([name for name in ('torch', 'lightning', 'ase') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
