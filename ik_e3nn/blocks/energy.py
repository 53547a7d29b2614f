"""From dimensionless readouts to energies."""

import torch
from torch import Tensor

from ik_e3nn.constants import Float64Module


class AtomicEnergy(Float64Module):
    r"""Site energies: a reference energy for each species plus a scaled readout, in float64.

    .. math:: E_i = E^0_{Z_i} + s \, \epsilon_i

    Energy changes of large systems are small differences of large numbers, which float32 cannot resolve.

    Args:
        num_species: Number of species.

    Example:
        >>> AtomicEnergy(2)(torch.zeros(3), torch.tensor([0, 1, 1])).dtype
        torch.float64
    """

    reference: Tensor
    scale: Tensor

    def __init__(self, num_species: int) -> None:
        super().__init__()
        self.register_buffer("reference", torch.zeros(num_species, dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    def forward(self, readout: Tensor, species: Tensor) -> Tensor:
        """Site energies (N,), float64, in eV, from readouts (N,) and species indices (N,)."""
        return self.reference.index_select(0, species) + self.scale * readout.double()
