"""Whether the docstrings of some folders have one markup: Google style with reStructuredText inside.

Names are in double backticks and formulas in ``.. math::``; Markdown's single backticks, fences and tables are told,
because a documentation generator would show them as they are. Usage: ``python .ci/markup.py FOLDER ...``
"""

import ast
import re
import sys
from pathlib import Path

ROLE_OR_CODE = re.compile(r"``.+?``|:[\w:]+:`[^`]+`|`[^`]+`_", re.DOTALL)
EXAMPLE = re.compile(r"^ *>>> .*?(?:\n *\n|\Z)", re.DOTALL | re.MULTILINE)
MARKDOWN = {
    "a single backtick": re.compile("`"),
    "a Markdown table": re.compile(r"^\s*\|[-: |]+\|\s*$", re.MULTILINE),
    "a Markdown link": re.compile(r"\]\(http"),
}


def docstrings(tree: ast.AST):
    """Line and text of every string that stands alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def main(folders: list[str]) -> int:
    """Print what is found; the exit status."""
    found = 0
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*.py")):
        for line, text in docstrings(ast.parse(path.read_text(encoding="utf-8"))):
            prose = ROLE_OR_CODE.sub("", EXAMPLE.sub("", text))
            for what, pattern in MARKDOWN.items():
                if pattern.search(prose):
                    print(f"{path}:{line}: {what} in a docstring; use ``code`` or a role of reStructuredText")
                    found += 1
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
