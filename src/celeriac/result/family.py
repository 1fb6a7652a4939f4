"""What a call set off, and what these set off: trees of results.

1. `iterdeps`: the results below one result, breadth first.
2. `graph_of`: the same as a `celeriac.utils.graph.DependencyGraph`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from celeriac.exceptions import IncompleteStream

if TYPE_CHECKING:
    from celeriac.utils.graph import DependencyGraph

__all__ = ["graph_of", "iterdeps"]


def iterdeps(root: Any, *, intermediate: bool) -> Iterator[tuple[Any, Any]]:
    """Yield (parent, result) for `root` and all its descendants.

    Raises:
        IncompleteStream: one is not there yet, and `intermediate` is false.
    """
    waiting: deque[tuple[Any, Any]] = deque([(None, root)])
    while waiting:
        parent, node = waiting.popleft()
        yield parent, node
        if node.ready():
            waiting.extend((node, child) for child in node.children or [])
        elif not intermediate:
            raise IncompleteStream(f"The result of task {node.id} is not there yet.")


def graph_of(root: Any, *, intermediate: bool, formatter: Callable[[Any], str] | None) -> DependencyGraph:
    """The graph of `root` and its descendants; `formatter` returns the label of a result."""
    from celeriac.utils.graph import DependencyGraph

    graph = DependencyGraph(formatter=formatter)
    for parent, node in iterdeps(root, intermediate=intermediate):
        graph.add_arc(node)
        if parent is not None:
            graph.add_edge(parent, node)
    return graph
