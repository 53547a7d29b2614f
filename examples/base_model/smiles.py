"""Small molecules made from scaffolds by replacing hydrogens with functional groups."""

import hashlib
from collections.abc import Iterable

from rdkit import Chem, rdBase

SCAFFOLDS = """
[H][H] N#N F Cl ClCl O=C=O [C-]#[O+] C#N NN NO N=C=O O=C=S
C CC CCC CCCC CC(C)C C=C CC=C C=CC=C C#C CC#C C=C=C C1CC1 C1CCC1 C1CCCC1 C1CCCCC1 C1=CCCC1 C1=CCCCC1
c1ccccc1 c1ccncc1 c1ccoc1 c1ccsc1 c1cc[nH]c1 c1cnc[nH]1 c1cc[nH]n1 c1cnccn1 c1cncnc1 c1ccnnc1 c1cocn1 c1cscn1 c1ccno1
c1nc[nH]n1 c1ccc2[nH]ccc2c1 c1ccc2ccccc2c1 c1ccc2occc2c1 c1ccc2ncccc2c1
C1CO1 C1CN1 C1COC1 C1CNC1 C1CCOC1 C1CCNC1 C1CCSC1 C1CCOCC1 C1CCNCC1 C1CNCCN1 C1COCCN1 C1COCO1
O N S CO CN CS COC CNC CSC CN(C)C C=O CC=O CC(C)=O OC=O CC(=O)O COC=O CC(=O)OC NC=O CC(N)=O CC(=O)NC NC(N)=O COC(N)=O
CC#N C=NC C=NO CC(C)=NO CNN CSSC CS(C)=O CS(C)(=O)=O CS(N)(=O)=O C[N+](=O)[O-] CC(=O)S CC(N)=S NC(=N)N C=CC=O C=CC(=O)O
O=C1CCCC1 O=C1CCCCC1 O=C1CCCN1 O=C1CCCO1 O=C1C=CC(=O)N1 O=c1cccc[nH]1 CF CCl C=CF C=CCl FC(F)F CC(=O)C(C)=O OCC=O
NCC(=O)O
""".split()  # noqa: SIM905
GROUPS = """
C CC C(C)C C(C)(C)C C=C C#C C1CC1 O OC OCC CO N NC N(C)C CN S SC F Cl C(F)(F)F CF CCl C#N C=O C(C)=O C(=O)O C(=O)OC
C(N)=O
NC(C)=O NC=O OC(C)=O [N+](=O)[O-] S(C)(=O)=O S(C)=O S(N)(=O)=O c1ccccc1 c1ccncc1 c1ccoc1 CCO CCN CC#N C(=O)NC NC(N)=O
""".split()  # noqa: SIM905
UNWANTED = [
    Chem.MolFromSmarts(pattern)
    for pattern in (
        "[OX2][OX2]", "[NX3][F,Cl,OX2H0]", "[O,S][F,Cl]", "[#7][#7][#7;X3]", "[OX2][SX2]", "[SX2][SX2][SX2]",
        "C([OX2,NX3])([OX2,NX3])[OX2,NX3]", "[Cl,F][CX4][OH,NH2]",
    )
]  # fmt: skip


def molecules(count: int, *, seed: int = 0, max_atoms: int = 20) -> list[str]:
    """Canonical SMILES of neutral molecules of C, H, N, O, F, S and Cl, in a reproducible random order.

    Args:
        count: Number of molecules; fewer if there are no more.
        seed: Seed of the order.
        max_atoms: Largest number of atoms, hydrogens included.
    """
    names = {name for name in map(_canonical, SCAFFOLDS) if name}
    small = _shuffled([name for name in names if _count(Chem.MolFromSmiles(name)) <= max_atoms], seed)
    found, layer = dict.fromkeys(small), small
    for tries in (40, 6, 3):  # groups on every scaffold, then on some molecules that have a group, and so on
        layer = [name for core in layer for name in substituted(core, tries, max_atoms=max_atoms, seed=seed)]
        layer = _shuffled(set(layer) - found.keys(), seed)[:count]
        found |= dict.fromkeys(layer)
        if len(found) >= 2 * count:
            break
    return (small + _shuffled(found.keys() - set(small), seed))[:count]


def substituted(core: str, tries: int, *, max_atoms: int, seed: int = 0) -> list[str]:
    """Replace a hydrogen of a molecule with one of the groups, in some of all possible ways."""
    molecule = Chem.MolFromSmiles(core)
    ranks = list(Chem.CanonicalRankAtoms(molecule, breakTies=False))
    sites = {rank: atom.GetIdx() for rank, atom in zip(ranks, molecule.GetAtoms(), strict=True) if atom.GetTotalNumHs()}
    ways = [f"{site} {group}" for site in sites.values() for group in GROUPS]
    found = []
    for way in sorted(ways, key=lambda way: _number(f"{core} {way}", str(seed)))[:tries]:
        site, group = way.split()
        name = _joined(molecule, int(site), Chem.MolFromSmiles(group), max_atoms)
        found += [name] if name else []
    return found


def held_out(smiles: str, share: float) -> bool:
    """Whether a molecule is kept for tests: its SMILES alone decides, whatever else is in the set."""
    return _number(smiles, "held out") < share


def _joined(core: Chem.Mol, site: int, group: Chem.Mol, max_atoms: int) -> str:
    combined = Chem.RWMol(Chem.CombineMols(core, group))
    combined.AddBond(site, core.GetNumAtoms(), Chem.BondType.SINGLE)
    atom = combined.GetAtomWithIdx(site)
    if atom.GetNumExplicitHs():
        atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
    with rdBase.BlockLogs():
        if Chem.SanitizeMol(combined, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
            return ""
        if _count(combined) > max_atoms:
            return ""
        return _canonical(Chem.MolToSmiles(combined))


def _count(molecule: Chem.Mol) -> int:
    """Atoms of a molecule, hydrogens included."""
    return sum(1 + atom.GetTotalNumHs() for atom in molecule.GetAtoms())


def _canonical(smiles: str) -> str:
    """Canonical SMILES, or an empty string for an unwanted molecule."""
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or any(molecule.HasSubstructMatch(pattern) for pattern in UNWANTED):
        return ""
    if any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        return ""
    return str(Chem.MolToSmiles(molecule))


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    return sorted(names, key=lambda name: _number(name, str(seed)))


def _number(name: str, salt: str) -> float:
    """A reproducible pseudo-random number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(f"{salt} {name}".encode()).digest()[:7], "big") / 256**7
