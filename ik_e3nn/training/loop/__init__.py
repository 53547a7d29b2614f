"""The training loop, for Lightning: importing any part of it needs Lightning and TensorBoard."""

from ik_e3nn.optional import needed

needed("lightning")
needed("tensorboard")
