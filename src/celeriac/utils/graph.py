"""What depends on what: the graph of a result and its children (`AsyncResult.graph`).

1. `DependencyGraph`: nodes and their dependencies; order, and Graphviz text.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, TextIO

__all__ = ["DependencyGraph"]


class DependencyGraph:
    """Nodes, each with the nodes it depends on.

    Args:
        it: (node, dependencies) pairs.
        formatter: called with a node, returns its label in Graphviz text; `str` by default.

    Example:
        >>> graph = DependencyGraph([("house", ["wall"]), ("wall", ["brick"])])
        >>> graph.topsort()
        ['brick', 'wall', 'house']
    """

    def __init__(
        self,
        it: Iterable[tuple[Hashable, Iterable[Hashable]]] | None = None,
        formatter: Callable[[Any], str] | None = None,
    ) -> None:
        self.adjacent: dict[Hashable, list[Hashable]] = {}
        self._label = formatter or str
        for node, dependencies in it or ():
            self.add_arc(node)
            for dependency in dependencies:
                self.add_edge(node, dependency)

    def add_arc(self, node: Hashable) -> None:
        """Add a node."""
        self.adjacent.setdefault(node, [])

    def add_edge(self, node: Hashable, dependency: Hashable) -> None:
        """Say that `node` depends on `dependency`; nodes that are missing are added."""
        self.add_arc(dependency)
        self.add_arc(node)
        if dependency not in self.adjacent[node]:
            self.adjacent[node].append(dependency)

    def connect(self, graph: DependencyGraph) -> None:
        """Take over all nodes and dependencies of another graph."""
        for node, dependencies in graph.items():
            self.add_arc(node)
            for dependency in dependencies:
                self.add_edge(node, dependency)

    def topsort(self) -> list[Any]:
        """All nodes, each after those it depends on.

        Raises:
            ValueError: nodes depend on each other in a circle.
        """
        try:
            return list(TopologicalSorter(self.adjacent).static_order())
        except CycleError as exc:
            raise ValueError(f"these depend on each other in a circle: {exc.args[1]}") from exc

    def edges(self) -> list[Any]:
        """The nodes that depend on others."""
        return [node for node, dependencies in self.adjacent.items() if dependencies]

    def items(self) -> Iterable[tuple[Any, list[Any]]]:
        return self.adjacent.items()

    def __getitem__(self, node: Hashable) -> list[Any]:
        return self.adjacent[node]

    def __contains__(self, node: object) -> bool:
        return node in self.adjacent

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __len__(self) -> int:
        return len(self.adjacent)

    def to_dot(self, fh: TextIO, formatter: Callable[[Any], str] | None = None) -> None:
        """Write it as a Graphviz digraph.

        Args:
            fh: a text file.
            formatter: as that of the class.
        """
        label = formatter or self._label
        fh.write("digraph dependencies {\n")
        for node in self.adjacent:
            fh.write(f"    {_quoted(label(node))}\n")
        for node, dependencies in self.adjacent.items():
            for dependency in dependencies:
                fh.write(f"    {_quoted(label(node))} -> {_quoted(label(dependency))}\n")
        fh.write("}\n")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
