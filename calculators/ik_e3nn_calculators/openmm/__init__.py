"""OpenMM: the potential ``ik_e3nn`` of ``openmmml``, for whole systems and for a part of a classical one."""
