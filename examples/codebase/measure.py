"""What there is to measure in one Python file. Plain functions, no tasks here."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from typing import TypedDict

FUNCTIONS = {ast.FunctionDef, ast.AsyncFunctionDef}
#: What opens a block of its own.
BLOCKS = {
    *FUNCTIONS,
    ast.ClassDef,
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.Try,
    ast.TryStar,
    ast.With,
    ast.AsyncWith,
    ast.Match,
}
#: Each of these is one more way through a function.
BRANCHES = {
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.match_case,
    ast.Assert,
}


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


class Summary(TypedDict):
    """What all files came to. `top`: the ten with the most complex functions; `broken`: not parsed."""

    files: int
    lines: int
    functions: int
    classes: int
    broken: int
    top: list[Measures]


def sum_up(measured: list[Measures]) -> Summary:
    """The totals, and the files with the most complex functions."""
    good = [one for one in measured if not one["error"]]
    return Summary(
        files=len(measured),
        lines=sum(one["lines"] for one in measured),
        functions=sum(one["functions"] for one in measured),
        classes=sum(one["classes"] for one in measured),
        broken=len(measured) - len(good),
        top=sorted(good, key=lambda one: one["complexity"], reverse=True)[:10],
    )


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
    walk(tree, found)
    return found


class Function:
    """A function that is being measured; `ways` is McCabe's number."""

    def __init__(self, name: str, inside: Function | None) -> None:
        self.name = name
        self.inside = inside
        self.ways = 1


def walk(tree: ast.AST, found: Measures) -> None:
    """Visit every node once, and count into `found`."""
    functions: list[Function] = []
    todo: list[tuple[ast.AST, int, Function | None]] = [(tree, 0, None)]
    while todo:
        node, depth, function = todo.pop()
        kind = type(node)
        if kind in BLOCKS:
            depth += 1
            found["nesting"] = max(found["nesting"], depth)
        if kind in FUNCTIONS:
            function = Function(node.name, function)  # type: ignore[attr-defined]
            functions.append(function)
        elif kind is ast.ClassDef:
            found["classes"] += 1
        elif function is not None and kind in BRANCHES:
            function.ways += 1
        elif function is not None and isinstance(node, ast.BoolOp):
            function.ways += len(node.values) - 1
        for child in ast.iter_child_nodes(node):
            # `elif` is an `if` in the other branch, and stands no deeper for it.
            is_elif = kind is ast.If and type(child) is ast.If and child in node.orelse  # type: ignore[attr-defined]
            todo.append((child, depth - is_elif, function))
    found["functions"] = len(functions)
    for one in reversed(functions):  # inner ones first: their ways are ways through the outer one as well
        if one.inside is not None:
            one.inside.ways += one.ways - 1
        if one.ways >= found["complexity"]:
            found["complexity"], found["most_complex"] = one.ways, one.name
