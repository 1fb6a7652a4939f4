"""What there is to measure in one Python file. Plain functions, no tasks here."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from typing import TypedDict

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: Statements that open a block of their own.
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.Match)
#: Each of these is one more way through a function.
BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.match_case,
    ast.Assert,
)


class Measures(TypedDict):
    """What one file came to. `error` tells why a file could not be parsed."""

    path: str
    lines: int
    functions: int
    classes: int
    nesting: int
    complexity: int
    most_complex: str
    error: str


def measure_file(path: Path, name: str) -> Measures:
    """Parse the file at `path` and measure it; `name` is what it is called in the result."""
    source = path.read_bytes()
    found = Measures(
        path=name,
        lines=source.count(b"\n"),
        functions=0,
        classes=0,
        nesting=0,
        complexity=0,
        most_complex="",
        error="",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(source)
    except (SyntaxError, ValueError) as exc:  # the library's tests hold files that are broken on purpose
        found["error"] = str(exc)
        return found
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            found["functions"] += 1
            score = complexity(node)
            if score > found["complexity"]:
                found["complexity"], found["most_complex"] = score, node.name
        elif isinstance(node, ast.ClassDef):
            found["classes"] += 1
    found["nesting"] = nesting(tree)
    return found


def complexity(function: ast.AST) -> int:
    """McCabe's number: the ways through a function, those through inner functions included."""
    score = 1
    for node in ast.walk(function):
        if isinstance(node, BRANCHES):
            score += 1
        elif isinstance(node, ast.BoolOp):
            score += len(node.values) - 1
    return score


def nesting(tree: ast.AST) -> int:
    """How many blocks stand inside each other at the deepest place."""
    deepest = 0
    todo = [(tree, 0)]
    while todo:
        node, depth = todo.pop()
        inside = depth + isinstance(node, (*BLOCKS, *FUNCTIONS, ast.ClassDef))
        deepest = max(deepest, inside)
        for child in ast.iter_child_nodes(node):
            # `elif` is an `if` in the other branch, and stands no deeper for it.
            elif_ = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
            todo.append((child, depth if elif_ else inside))
    return deepest
