"""Shipped code uses public names of e3nn alone, so that it runs with every release that keeps those."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = [path for folder in ("ik_e3nn", "calculators", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def private_names(source: str) -> Iterator[str]:
    """What a module uses of e3nn, directly or through names bound to it, whose name starts with an underscore.

    Names are followed through imports, assignments and annotations: ``o3._wigner``, ``x._slices`` after
    ``x = o3.Irreps("1o")`` or in a function of ``x: o3.Irreps``.
    """
    tree = ast.parse(source)
    known: set[str] = set()

    def of_e3nn(node: ast.AST | None) -> bool:
        if isinstance(node, ast.Name):
            return node.id in known
        if isinstance(node, ast.Attribute):
            return of_e3nn(node.value)
        return isinstance(node, ast.Call) and of_e3nn(node.func)

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "e3nn":
                    known.add(name.asname or "e3nn")
                    yield from (name.name for part in name.name.split(".") if is_private(part))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "e3nn":
            for name in node.names:
                known.add(name.asname or name.name)
                whole = f"{node.module}.{name.name}"
                yield from (whole for part in whole.split(".") if is_private(part))
    for _ in range(2):  # an assignment may follow another
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and of_e3nn(node.value):
                known |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None and of_e3nn(node.annotation):
                target = node.target if isinstance(node, ast.AnnAssign) else None
                known |= {target.id} if isinstance(target, ast.Name) else {node.arg} if target is None else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and of_e3nn(node.value):
            yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            name = node.args[1] if len(node.args) > 1 else None
            if of_e3nn(node.args[0]) and isinstance(name, ast.Constant) and is_private(str(name.value)):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            for name in node.args[:1]:
                if isinstance(name, ast.Constant) and str(name.value).split(".")[0] == "e3nn" and "._" in name.value:
                    yield ast.unparse(node)


def test_no_private_name_of_e3nn_is_used():
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in SHIPPED}
    assert sum("import o3" in source for source in sources.values()) > 20
    assert not {path: found for path, source in sources.items() if (found := list(private_names(source)))}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from e3nn.o3._wigner import wigner_D", "e3nn.o3._wigner.wigner_D"),
        ("from e3nn.o3 import _wigner", "e3nn.o3._wigner"),
        ("import e3nn.util._argtools", "e3nn.util._argtools"),
        ("from e3nn import o3\nx = o3._rotation.rand()", "o3._rotation"),
        ("import e3nn as e\ne.o3._wigner", "e.o3._wigner"),
        ("from e3nn import o3\nx = o3.Irreps('1o')\nx._slices", "x._slices"),
        ("from e3nn import o3\ndef f(x: o3.Irreps):\n    return x._slices", "x._slices"),
        ("from e3nn import o3\ngetattr(o3, '_wigner')", "getattr(o3, '_wigner')"),
        ("import importlib\nimportlib.import_module('e3nn.o3._wigner')", "importlib.import_module('e3nn.o3._wigner')"),
    ],
)
def test_private_names_are_found(source, found):
    assert found in list(private_names(source))


@pytest.mark.parametrize(
    "source",
    [
        "from e3nn import o3\nclass A:\n    def f(self):\n        return self._x, o3.Irreps('1o').dim",
        "from e3nn.o3 import Irreps\nIrreps.__name__",
        "import torch\ntorch._C",
    ],
)
def test_public_and_other_names_are_not(source):
    assert not list(private_names(source))
