"""Packages of machine code on disk: one for every architecture, precision, kind of processor and version of code."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ik_e3nn.models.compiled.graph import Fusable, Part, padded, places, random_edges, traced, write_package
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.native import processor
from ik_e3nn.private_folder import cache_folder

Graph = Callable[[list[Tensor], list[Tensor]], Sequence[Tensor]]
"""Function from the tensors of a model and the edges, both in fixed orders, to energies and gradients."""


def package_of(model: InteratomicPotential, *, cache: str | Path | None = None) -> Path:
    """The file of machine code for models like this one, which need not exist."""
    return cache_folder(cache).expanduser() / f"{key_of(model)}.pt2"


def compile_to(model: InteratomicPotential, path: Path) -> None:
    """Compile the graph to a file that only this user can write to."""
    example = padded(random_edges(model), model.r_max)
    edges = [example[key] for key in sorted(example)]
    state = [store[name].detach() for store, name in places(model).values()]
    atoms_or_blocks = {0: torch.export.Dim.DYNAMIC}
    graph = Fusable(traced(model, training=False)).transform()
    part = Part(graph, (state, edges), ([{}] * len(state), [atoms_or_blocks] * len(edges)))
    configs = {"cpp.threads": 1} if for_one_thread(model) else {"cpp.dynamic_threads": True}
    write_package({"model": part}, path, configs=configs, mode=0o600)


def is_damaged(path: Path) -> bool:
    """Whether a package is there, but is not as it was written."""
    try:
        with zipfile.ZipFile(path) as package:
            return package.testzip() is not None
    except FileNotFoundError:
        return False
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return True


def load_graph(path: Path, device: torch.device) -> Graph:
    """A package as a function of (state, edges)."""
    where: dict[str, Any] = {} if device.index is None else {"device_index": device.index}
    # torch would try out again, for a second or two, for which instructions this machine can compile
    with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):
        package = torch._inductor.aoti_load_package(str(path), **where)
    torch._inductor.cpu_vec_isa.valid_vec_isa_list.cache_clear()  # a compilation must try them out
    # its __call__ first sorts nested inputs, which takes a tenth of the time for the energy of a small molecule
    return lambda state, edges: package.loader.run([*state, *edges])


def key_of(model: InteratomicPotential) -> str:
    """Digest of everything that determines the machine code: architecture, dtype, device, and all source code."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[2]
    layers = ("symmetry", "basis", "nn", "graph", "kernels", "conv", "blocks", "targets", "models")
    for source in sorted(
        [*package.glob("*.py"), *(file for layer in layers for file in (package / layer).rglob("*.py"))]
    ):
        digest.update(source.read_bytes())
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else processor()
    parts = [model.config, str(model.dtype), model.device.type, device, torch.__version__, for_one_thread(model)]
    parts.append(model.block_width)  # edges are alone where sums over them are in C++
    parts.append(list(places(model)))  # low-rank updates are further inputs of the graph
    digest.update(json.dumps(parts, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def for_one_thread(model: InteratomicPotential) -> bool:
    """Whether torch has one thread now: code for several would take a tenth more time for a small molecule."""
    return model.device.type == "cpu" and torch.get_num_threads() == 1
