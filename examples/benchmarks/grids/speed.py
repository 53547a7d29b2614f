"""Time inference of a steerable convolution and of torch's convolution of the same dense shape."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from grids.network import L_MAX, layer
from ik_e3nn.basis import spherical_irreps
from ik_e3nn.conv import Stencil

CASES = {
    # name: (dimensions, points along an axis, channels of every degree, batch, group)
    "image 16, 36 channels": (2, 16, 4, 16, "SO2"),
    "image 32, 72 channels": (2, 32, 8, 8, "SO2"),
    "image 64, 72 channels": (2, 64, 8, 2, "SO2"),
    "voxels 16, 36 channels": (3, 16, 4, 2, "O3"),
    "voxels 24, 72 channels": (3, 24, 8, 1, "O3"),
}
ROUNDS = 15
Row = dict[str, Any]


def measure(name: str, device: str) -> Row:
    """Median times (ms), measured in turn, A B C A B C ..., so that other load affects all equally."""
    dims, points, channels, batch, group = CASES[name]
    torch.manual_seed(0)
    irreps = spherical_irreps(L_MAX, channels)
    steerable = layer(irreps, irreps, group, stencil=Stencil(5, dims=dims)).eval().to(device)
    conv = steerable[0]
    convolution, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
    plain = convolution(conv.dim_in, conv.dim_out, 5, padding=2, bias=False)
    whole = nn.Sequential(plain, norm(conv.dim_out), nn.ReLU()).eval().to(device)
    layout = (torch.channels_last, torch.channels_last_3d)[dims - 2]
    x = torch.randn(batch, irreps.dim, *(points,) * dims, device=device).contiguous(memory_format=layout)
    calls: dict[str, Callable[[], object]] = {
        "steerable_ms": lambda: conv(x),
        "plain_ms": lambda: plain(x),
        "steerable_layer_ms": lambda: steerable(x),
        "plain_layer_ms": lambda: whole(x),
        "folding_ms": conv.weight,
    }
    samples: dict[str, list[float]] = {key: [] for key in calls}
    with torch.no_grad():
        for _ in range(ROUNDS + 2):
            for key, call in calls.items():
                start = time.perf_counter()
                call()
                if device != "cpu":
                    torch.cuda.synchronize()
                samples[key].append(1000 * (time.perf_counter() - start))
    row: Row = {"case": name, "device": device, "threads": torch.get_num_threads()}
    row |= {key: round(statistics.median(values[2:]), 3) for key, values in samples.items()}
    row["ratio"] = round(row["steerable_ms"] / row["plain_ms"], 3)
    row["layer_ratio"] = round(row["steerable_layer_ms"] / row["plain_layer_ms"], 3)
    return row
