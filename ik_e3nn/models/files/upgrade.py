"""What older versions wrote into model files, in the terms of this one."""

from __future__ import annotations

from typing import Any


def upgraded(info: dict[str, Any]) -> dict[str, Any]:
    """The JSON part of a model file with the settings spelled out that did not exist when it was written.

    Args:
        info: What is in the file; it is not changed.

    Returns:
        The same with a ``config`` of today.

    Example:
        >>> upgraded({"config": {"steerable": {"channels": 4}}})["config"]["steerable"]
        {'channels': 4, 'activation': 'sphere'}
    """
    config = info.get("config")
    settings = config.get("steerable") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(settings, dict) or "activation" in settings:
        return info
    # until the activation could be chosen, the paper's network had the pointwise one on the sphere
    return info | {"config": config | {"steerable": settings | {"activation": "sphere"}}}
