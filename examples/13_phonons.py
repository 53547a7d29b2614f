"""Phonons of copper: a potential learned from EMT, its bands and heat capacity; five minutes.

pip install "ik-e3nn[train,phonopy]"
python examples/03_crystal.py --output crystal    # trains the potential
python examples/13_phonons.py crystal/model.safetensors --output phonons
"""

import argparse

from ase.build import bulk

from ik_e3nn_calculators.phonons.run import run_phonons
from ik_e3nn_calculators.phonons.settings import PhononSettings


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--output", default="phonons")
    options = parser.parse_args()
    settings = PhononSettings(
        "Cu", options.model, supercell=[4, 4, 4], cell="hydrostatic", output=options.output, overwrite=True
    )
    summary = run_phonons(settings, atoms=bulk("Cu"))
    print(f"highest frequency {summary.highest_per_cm:.0f}/cm; heat capacity {summary.heat_capacity_eV_per_K:.3e} eV/K")


if __name__ == "__main__":
    main()
