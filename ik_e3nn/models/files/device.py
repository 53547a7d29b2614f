"""Choose the device of a model."""

import torch

from ik_e3nn.errors import ConfigError


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device of a setting.

    Args:
        device: "cpu", "cuda", "cuda:1" ..., or "auto" for a GPU if one is available.

    Raises:
        ConfigError: The name is unknown, or the device is not present.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = "'auto' or 'cpu'" if not present else f"'auto', 'cpu' or 'cuda:0' to 'cuda:{present - 1}'"
    if not isinstance(device, str | torch.device):
        raise ConfigError(f"device must be a name or a torch.device; got {device!r}: use {here}")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {device!r}; use {here} (a GPU is called 'cuda')") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {str(device)!r} is not supported; use {here}")
    if chosen.type == "cuda" and (chosen.index or 0) >= present:
        raise ConfigError(
            f"device {str(device)!r} was asked for, but torch sees {present or 'no'} GPU here; use {here}"
        )
    return chosen
