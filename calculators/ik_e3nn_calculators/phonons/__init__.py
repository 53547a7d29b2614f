"""Phonons of crystals through phonopy."""
