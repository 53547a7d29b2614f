"""The commands, each with the dataclass that defines its options and the function that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Command:
    """One command of ``ik-e3nn``.

    Args:
        name: The words that users type.
        summary: One line for the help.
        function: "module:function" that takes the settings; the fields of its first argument are the options.
        positional: Fields that are given by position.
        rest: The field, a list, that takes all further words; empty if there must be none.
        example: The arguments of an example.
        shows_result: Whether the returned object is shown; otherwise the function reports by itself.
        continues: Whether the command itself reports how to continue a stopped run.
    """

    name: str
    summary: str
    function: str
    positional: tuple[str, ...] = ()
    rest: str = ""
    example: str = ""
    shows_result: bool = True
    continues: bool = False

    def load(self) -> tuple[type[Any], Any]:
        """Import the function, and find the class of its settings."""
        module, _, name = self.function.partition(":")
        function = getattr(import_module(module), name)
        return next(iter(get_type_hints(function).values())), function


TRAIN, FINETUNE = "train", "finetune"

COMMANDS = (
    Command(
        "data generate",
        "structures of molecules and crystals, labeled by an ASE calculator or GFN2-xTB",
        "ik_e3nn.data.generation.generate:generate",
        example="--smiles CCO -o ethanol.xyz",
        shows_result=False,
        continues=True,
    ),
    Command(
        "data check",
        "contents of a data file: labels, E0s, outliers, duplicates, closest contacts",
        "ik_e3nn.data.checking.check:check",
        positional=("data",),
        example="train.xyz",
    ),
    Command(
        TRAIN,
        "train a potential, or properties of molecules if the configuration names data.targets",
        "ik_e3nn.training.fit:train",
        positional=("config",),
        example="config.yaml --model.num_channels=64",
        continues=True,
    ),
    Command(
        FINETUNE,
        "train a model further, on new data: a potential, or properties if the configuration names data.targets",
        "ik_e3nn.training.fit:finetune",
        positional=("base", "config"),
        example="base.safetensors config.yaml --finetune.method=lora",
        continues=True,
    ),
    Command(
        "eval",
        "predictions and errors of a model on a data file",
        "ik_e3nn.training.inference.evaluation:evaluate",
        positional=("model", "data"),
        example="model.safetensors test.xyz -o predicted.xyz",
        shows_result=False,
    ),
    Command(
        "calibrate",
        "uncertainty of a model or a committee of models, calibrated on validation data",
        "ik_e3nn.training.uncertainty.calibration:calibrate",
        positional=("model", "data"),
        example="model.safetensors valid.xyz --train train.xyz -o uncertainty.safetensors",
    ),
    Command(
        "predict",
        "energies and properties of the molecules in a file, as a table",
        "ik_e3nn.training.inference.table:predict",
        positional=("model", "data"),
        example="properties.safetensors smiles.csv -o out.csv",
    ),
    Command(
        "md",
        "molecular dynamics of structure files and SMILES strings",
        "ik_e3nn_calculators.many.run:md",
        positional=("structure",),
        rest="more",
        example="CCO --ensemble langevin --time_ps 5",
        continues=True,
    ),
    Command(
        "relax",
        "relaxation of structure files and SMILES strings",
        "ik_e3nn_calculators.many.run:relax",
        positional=("structure",),
        rest="more",
        example="slab.xyz --model model.safetensors",
        continues=True,
    ),
    Command(
        "vibrations",
        "frequencies, zero-point energy and thermochemistry of a structure file or a SMILES string",
        "ik_e3nn_calculators.vibrations.run:run_vibrations",
        positional=("structure",),
        example="CCO",
    ),
    Command(
        "phonons",
        "phonons of a crystal: bands, density of states, heat capacity",
        "ik_e3nn_calculators.phonons.run:run_phonons",
        positional=("structure",),
        example="si.cif --model model.safetensors --supercell 3 3 3",
    ),
    Command(
        "dock",
        "poses of a molecule over a surface or in a site",
        "ik_e3nn_calculators.dock:run_dock",
        positional=("ligand",),
        example="c1ccccc1 --model graphite.safetensors --host surface",
        continues=True,
    ),
    Command(
        "info",
        "contents of a model file",
        "ik_e3nn.cli.info:info",
        positional=("model",),
        example="model.safetensors",
    ),
    Command(
        "export lammps",
        "a potential as machine code for pair_style ik_e3nn of LAMMPS",
        "ik_e3nn_calculators.lammps.export:export_lammps",
        positional=("model",),
        example="model.safetensors -o model.pt2",
    ),
    Command(
        "export ipi",
        "the file through which i-PI loads the driver of ik_e3nn",
        "ik_e3nn_calculators.ipi.export:export_ipi",
        example="-o ik_pes.py",
    ),
    Command(
        "lammps build",
        "the plug-in of LAMMPS with pair_style ik_e3nn, compiled",
        "ik_e3nn_calculators.lammps.build:build_lammps",
    ),
    Command(
        "show-kernel",
        "pictures of the kernels of a model, or of random kernels of a group",
        "ik_e3nn.cli.show_kernel:show_kernel",
        positional=("model",),
        example="--group C4v --irreps-in 0e --irreps-out 0e+1o+2e -o kernel",
    ),
)


def find_command(words: list[str]) -> tuple[Command | None, list[str]]:
    """The command that the words begin with, and the words after it.

    >>> find_command(["data", "check", "a.xyz"])[0].name, find_command(["data", "check", "a.xyz"])[1]
    ('data check', ['a.xyz'])
    """
    for command in COMMANDS:
        parts = command.name.split()
        if words[: len(parts)] == parts:
            return command, words[len(parts) :]
    return None, words
