"""The list of tests that ``make test-fast`` leaves out is up to date, and leaves something of every package."""

import ast
import functools

from tests.conftest import HERE, LONG


@functools.cache
def functions():
    """Names of all tests as they are in the list, by folder; those marked slow are left out."""
    found = {}
    for path in sorted(HERE.rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            inside = [(f"{node.name}::", one) for one in node.body] if isinstance(node, ast.ClassDef) else [("", node)]
            for prefix, one in inside:
                slow = any("mark.slow" in ast.unparse(mark) for mark in getattr(one, "decorator_list", []))
                if isinstance(one, ast.FunctionDef) and one.name.startswith("test_") and not slow:
                    found.setdefault(path.parent, set()).add(f"{path.relative_to(HERE)}::{prefix}{one.name}")
    return found


def test_every_test_of_the_list_is_there():
    known = set().union(*functions().values())
    gone = sorted(set(LONG.read_text().split()) - known)
    assert not gone, f"rename or remove these in {LONG.name}: {', '.join(gone)}"


def test_tests_of_every_package_are_left():
    long = set(LONG.read_text().split())
    assert not [folder for folder, names in functions().items() if names <= long and folder.name != "fuzz"]
