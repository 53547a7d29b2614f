"""Molecules with properties: what every reader gives, the readers, references and the bonds."""
