"""Settings and values that had another name in earlier versions."""

RENAMED = {
    "attributes": "irreps_attributes",
    "polarisability": "polarizability",
}
"""New names by old names, for keys in YAML files, options and values."""


def new_name(old: object) -> str | None:
    """The new name of a renamed key or value; None if it has not changed.

    Args:
        old: A value, or a key with or without the sections before it.

    Example:
        >>> new_name("polarisability"), new_name("kernel.attributes"), new_name("seed")
        ('polarizability', 'kernel.irreps_attributes', None)
    """
    section, dot, name = old.rpartition(".") if isinstance(old, str) else ("", "", "")
    return f"{section}{dot}{RENAMED[name]}" if name in RENAMED else None
