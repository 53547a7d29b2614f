"""The modules of RDKit that this library uses, each imported at its first use: most of the library works without."""

from typing import TYPE_CHECKING

from ik_e3nn.optional import OptionalModule

if TYPE_CHECKING:
    from rdkit import Chem, Geometry, rdBase
    from rdkit.Chem import rdDetermineBonds, rdDistGeom, rdForceFieldHelpers
else:
    Chem = OptionalModule("rdkit.Chem")
    Geometry = OptionalModule("rdkit.Geometry")
    rdBase = OptionalModule("rdkit.rdBase")
    rdDetermineBonds = OptionalModule("rdkit.Chem.rdDetermineBonds")
    rdDistGeom = OptionalModule("rdkit.Chem.rdDistGeom")
    rdForceFieldHelpers = OptionalModule("rdkit.Chem.rdForceFieldHelpers")

__all__ = ["Chem", "Geometry", "rdBase", "rdDetermineBonds", "rdDistGeom", "rdForceFieldHelpers"]
