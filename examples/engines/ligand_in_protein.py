"""A ligand with a learned potential in the pocket of a protein with Amber14, for 20 ps, and a picture of how it moves.

The model computes the energy inside the ligand. Amber14 computes the protein, and the interaction of both from charges
(MMFF94) and Lennard-Jones parameters (GAFF) of the ligand's atoms. There is no water: alpha carbons are held near their
places in the crystal instead. Hydrogen atoms that the files lack are added.

    pip install "ik-e3nn[openmm,chem]"
    python examples/engines/ligand_in_protein.py protein.pdb.gz ligand.sdf --ps 20
"""

import argparse
import gzip
import io
import time
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit
from openmmml import MLPotential
from rdkit import Chem
from rdkit.Chem import AllChem

from ik_e3nn.pictures import picture
from ik_e3nn_calculators.openmm.factory import IKPotentialFactory

MLPotential.registerImplFactory("ik_e3nn", IKPotentialFactory())  # also where the package is not installed

# Half of the distance of least energy (A) and depth (kcal/mol): Wang et al., J. Comput. Chem. 25, 1157 (2004)
GAFF = {
    "H": (1.487, 0.0157), "H aromatic": (1.459, 0.015), "H polar": (0.6, 0.0157), "C": (1.908, 0.086),
    "C sp3": (1.908, 0.1094), "N": (1.824, 0.17), "O": (1.6612, 0.21), "O hydroxyl": (1.721, 0.2104),
    "O ether": (1.6837, 0.17), "F": (1.75, 0.061), "S": (2.0, 0.25), "Cl": (1.948, 0.265),
}  # fmt: skip


def kind(atom: Chem.Atom) -> str:
    """The entry of ``GAFF`` for an atom."""
    symbol, around = atom.GetSymbol(), atom.GetNeighbors()
    if symbol == "H" and around[0].GetSymbol() != "C":
        return "H polar"
    if symbol == "H" and around[0].GetIsAromatic():
        return "H aromatic"
    if symbol == "C" and atom.GetHybridization() == Chem.HybridizationType.SP3:
        return "C sp3"
    if symbol == "O" and len(around) == 2:
        return "O hydroxyl" if any(one.GetSymbol() == "H" for one in around) else "O ether"
    return symbol


def force_field_of(ligand: Chem.Mol) -> str:
    """A force field of OpenMM with the charges and Lennard-Jones parameters of a ligand, and no bonds or angles."""
    charges = AllChem.MMFFGetMoleculeProperties(ligand)
    types, atoms, bonds, pairs = [], [], [], []
    for atom in ligand.GetAtoms():
        k, (radius, depth) = atom.GetIdx(), GAFF[kind(atom)]
        sigma, epsilon = 0.1 * 2 * radius / 2 ** (1 / 6), 4.184 * depth
        types.append(f'<Type name="LIG{k}" class="LIG{k}" element="{atom.GetSymbol()}" mass="{atom.GetMass()}"/>')
        atoms.append(f'<Atom name="X{k}" type="LIG{k}" charge="{charges.GetMMFFPartialCharge(k)}"/>')
        pairs.append(f'<Atom type="LIG{k}" sigma="{sigma}" epsilon="{epsilon}"/>')
    for bond in ligand.GetBonds():
        bonds.append(f'<Bond atomName1="X{bond.GetBeginAtomIdx()}" atomName2="X{bond.GetEndAtomIdx()}"/>')
    return (
        f"<ForceField><AtomTypes>{''.join(types)}</AtomTypes>"
        f'<Residues><Residue name="LIG">{"".join(atoms + bonds)}</Residue></Residues>'
        '<NonbondedForce coulomb14scale="0.8333333333333334" lj14scale="0.5">'
        f'<UseAttributeFromResidue name="charge"/>{"".join(pairs)}</NonbondedForce></ForceField>'
    )


def topology_of(ligand: Chem.Mol) -> app.Topology:
    """The topology of a ligand, with its formal charges."""
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain())
    atoms = [
        topology.addAtom(
            f"X{one.GetIdx()}", app.Element.getByAtomicNumber(one.GetAtomicNum()), residue,
            formalCharge=one.GetFormalCharge(),
        )
        for one in ligand.GetAtoms()
    ]  # fmt: skip
    for bond in ligand.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])
    return topology


def prepared(protein: Path, ligand: Chem.Mol) -> tuple[app.Modeller, app.ForceField]:
    """Protein and ligand with all hydrogen atoms, and their force field."""
    data = protein.read_bytes()
    text = (gzip.decompress(data) if protein.suffix == ".gz" else data).decode()
    file = app.PDBFile(io.StringIO(text))
    field = app.ForceField("amber14-all.xml", io.StringIO(force_field_of(ligand)))
    model = app.Modeller(file.topology, file.positions)
    model.topology.setPeriodicBoxVectors(None)  # one protein, not its crystal
    model.delete([atom for atom in model.topology.atoms() if atom.element == app.element.hydrogen])
    model.addHydrogens(field)
    model.add(topology_of(ligand), ligand.GetConformer().GetPositions() * unit.angstrom)
    return model, field


def held(model: app.Modeller) -> openmm.CustomExternalForce:
    """Springs from the alpha carbons to their places."""
    force = openmm.CustomExternalForce("500*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
    for name in ("x0", "y0", "z0"):
        force.addPerParticleParameter(name)
    for atom in model.topology.atoms():
        if atom.name == "CA":
            force.addParticle(atom.index, model.positions[atom.index].value_in_unit(unit.nanometer))
    return force


def deviations(positions: np.ndarray, start: np.ndarray) -> tuple[float, float]:
    """Root mean square distance from the start, as it is, and after the best superposition (Kabsch)."""
    first, second = positions - positions.mean(0), start - start.mean(0)
    u, _, vt = np.linalg.svd(first.T @ second)
    signs = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    turned = first @ u @ signs @ vt
    return tuple(float(np.sqrt(((a - b) ** 2).sum(1).mean())) for a, b in ((positions, start), (turned, second)))


def draw(rows: np.ndarray, path: Path) -> None:
    """The picture: both deviations against time."""
    with picture(path) as (_, [[axes]]):
        axes.plot(rows[:, 0], rows[:, 1], label="in the pocket")
        axes.plot(rows[:, 0], rows[:, 2], label="superposed: its shape alone")
        axes.set(xlabel="time (ps)", ylabel="RMSD of the ligand's heavy atoms (Å)", ylim=(0, None))
        axes.legend()


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protein", type=Path)
    parser.add_argument("ligand", type=Path)
    parser.add_argument("--model", default="base")
    parser.add_argument("--ps", type=float, default=20.0)
    parser.add_argument("--compile", action="store_true", help="compile the model: two minutes, then faster")
    parser.add_argument("--output", type=Path, default=Path("ligand_in_protein"))
    settings = parser.parse_args()
    settings.output.mkdir(parents=True, exist_ok=True)

    ligand = Chem.AddHs(Chem.MolFromMolFile(str(settings.ligand), removeHs=False), addCoords=True)
    model, field = prepared(settings.protein, ligand)
    classical = field.createSystem(
        model.topology,
        nonbondedMethod=app.CutoffNonPeriodic,
        nonbondedCutoff=1.0 * unit.nanometer,
        constraints=app.HBonds,
    )
    classical.addForce(held(model))
    learned = [atom.index for atom in model.topology.atoms() if atom.residue.name == "LIG"]
    potential = MLPotential("ik_e3nn", model=settings.model, compile=settings.compile)
    system = potential.createMixedSystem(model.topology, classical, learned, subtract_e0=True)
    print(f"{system.getNumParticles()} atoms, {len(learned)} of them with the model")

    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 1 * unit.femtosecond)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(model.topology, system, integrator)
    simulation.context.setPositions(model.positions)
    simulation.minimizeEnergy(maxIterations=200)
    simulation.context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    simulation.reporters.append(app.DCDReporter(str(settings.output / "trajectory.dcd"), 1000))
    heavy = [index for index, atom in zip(learned, ligand.GetAtoms(), strict=True) if atom.GetAtomicNum() > 1]
    crystal = np.array(model.positions.value_in_unit(unit.angstrom))[heavy]

    rows, clock = [], time.process_time()
    for step in range(0, round(1000 * settings.ps) + 1, 50):
        simulation.step(min(step, 50))
        state = simulation.context.getState(getPositions=True)
        now = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)[heavy]
        rows.append((step / 1000, *deviations(now, crystal)))
        if step % 1000 == 0:
            print("{:.2f} ps: RMSD {:.2f} A in the pocket, {:.2f} A superposed".format(*rows[-1]), flush=True)
            np.savetxt(settings.output / "rmsd.csv", rows, delimiter=",", header="ps,pocket,superposed", fmt="%.4f")
    print(f"{1e3 * (time.process_time() - clock) / max(step, 1):.1f} ms of processor time a step")
    draw(np.array(rows), settings.output / "rmsd.png")


if __name__ == "__main__":
    main()
