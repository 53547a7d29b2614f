"""The file that names the driver for i-PI."""

import os
from dataclasses import dataclass

from ik_e3nn.atomic import written_at_once
from ik_e3nn.settings import check_settings
from ik_e3nn.user_path import user_path

FILE = '''"""Energies of ik_e3nn for i-PI, written by `ik-e3nn export ipi`.

In the input of i-PI (parameters: those of ik_e3nn_calculators.ipi.driver.IKDriver):

  <ffdirect name="ik" pbc="false">
    <pes> custom </pes> <pes_path> {name} </pes_path>
    <batch_size> 4 </batch_size> <!-- how many beads are evaluated together -->
    <parameters> {{ template: start.xyz, model: base }} </parameters>
  </ffdirect>

With <ffsocket>: i-pi-py_driver -u -a ADDRESS -m custom -P {name} -o template=start.xyz,model=base
"""

from ik_e3nn_calculators.ipi.driver import IKDriver

__all__ = ["IKDriver"]

__DRIVER_NAME__ = "ik_e3nn"
__DRIVER_CLASS__ = "IKDriver"
'''


@dataclass(frozen=True)
class IpiExportSettings:
    """Settings of ``ik-e3nn export ipi``.

    Args:
        output: The Python file to write, which ``pes_path`` of i-PI's input names.
        overwrite: Replace a file that exists.
    """

    output: str = "ik_pes.py"
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_settings(self)


def export_ipi(settings: IpiExportSettings) -> str:
    """Write the file that i-PI loads the driver from; the model and the template are parameters in i-PI's input.

    Args:
        settings: The settings.

    Returns:
        A sentence that tells how to use the file.

    Raises:
        FileExistsError: The output exists, and ``overwrite`` is False.
    """
    path = user_path(settings.output)
    if os.path.lexists(path) and not settings.overwrite:
        raise FileExistsError(f"{path} exists: choose another file with -o, or give --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_at_once(path) as file:
        file.write(FILE.format(name=path.name).encode())
    return f"{path}: name it in <pes_path> of i-PI's input; its first lines show how"
