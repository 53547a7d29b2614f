"""Parts of a potential: embeddings, interactions, readouts, reference energies and derivatives."""

from ik_e3nn.blocks.embedding import Edges, NodeEmbedding
from ik_e3nn.blocks.energy import AtomicEnergy
from ik_e3nn.blocks.interaction import Interaction
from ik_e3nn.blocks.readout import Readout

__all__ = [
    "AtomicEnergy",
    "Edges",
    "Interaction",
    "NodeEmbedding",
    "Readout",
]
