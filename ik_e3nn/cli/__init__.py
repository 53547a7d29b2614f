"""The command line, ``ik-e3nn``: it reads settings, calls one function of the library, and reports."""

from ik_e3nn.cli.app import main

__all__ = ["main"]
