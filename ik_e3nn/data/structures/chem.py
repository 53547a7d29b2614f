"""The RDKit modules that this library uses, imported at first use, because most of the library works without RDKit."""

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
