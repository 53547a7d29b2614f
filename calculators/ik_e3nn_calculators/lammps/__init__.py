"""LAMMPS: the pair style ``ik_e3nn``, exported models, and two couplings through Python."""
