"""Canvases as plain data, so that they can be generated, made smaller, printed and sent to any library.

1. `Leaf`, `Chain`, `Group`, `Chord`: a description, frozen and hashable; `Tree` is any of them. `Errback`.
2. `dump`, `load`: to and from JSON values. `show`: a line for a person. `leaves`, `depth`: sizes.

Standard library only: Celery's interpreter reads this file as well. Not here: what a tree is worth
(`evaluate.py`), how it becomes signatures (`proj.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

__all__ = [
    "Chain",
    "Chord",
    "Errback",
    "Group",
    "Leaf",
    "Tree",
    "depth",
    "dump",
    "leaves",
    "load",
    "mark",
    "parts",
    "show",
]

#: Characters of a value that are kept as they are; longer ones become a digest.
READABLE = 60


@dataclass(frozen=True)
class Errback:
    """`style`: ``old`` takes the id of what failed, ``new`` takes (request, exception, traceback)."""

    label: str
    style: str = "old"


@dataclass(frozen=True)
class Leaf:
    """One call of a task that returns `mark(label, its arguments)`.

    Attributes:
        label: unique in its tree.
        how: ``ok``; ``fail``: raises; ``retry``: is tried again once, then as ok; ``giveup``: is tried again
            once, then raises; ``replace``: is replaced by `becomes`. Faults: ``reject``, ``expire``,
            ``revoke``, ``unknown`` (no worker knows its name), ``die`` (the first start kills its process),
            ``poison`` (each start does).
        immutable: what comes before does not reach it.
        own: it has an argument of its own, behind those that come.
        becomes: with ``replace``, what it is replaced by.
        links: are called with its value.
        errbacks: are called when it fails.
    """

    label: str
    how: str = "ok"
    immutable: bool = False
    own: bool = False
    becomes: Tree | None = None
    links: tuple[Tree, ...] = ()
    errbacks: tuple[Errback, ...] = ()


@dataclass(frozen=True)
class Chain:
    """`piped`: made by ``|`` and not by ``chain(…)``."""

    steps: tuple[Tree, ...]
    piped: bool = False
    links: tuple[Tree, ...] = ()
    errbacks: tuple[Errback, ...] = ()


@dataclass(frozen=True)
class Group:
    members: tuple[Tree, ...]
    errbacks: tuple[Errback, ...] = ()


@dataclass(frozen=True)
class Chord:
    """`piped`: made by ``group | body`` and not by ``chord(header, body)``."""

    header: tuple[Tree, ...]
    body: Tree
    piped: bool = False
    links: tuple[Tree, ...] = ()
    errbacks: tuple[Errback, ...] = ()


Tree: TypeAlias = Leaf | Chain | Group | Chord
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Leaf, Chain, Group, Chord)}


def parts(tree: Tree) -> Iterator[Tree]:
    """The trees that `tree` is directly made of; links and replacements are among them."""
    if isinstance(tree, Chain):
        yield from tree.steps
    elif isinstance(tree, Group):
        yield from tree.members
    elif isinstance(tree, Chord):
        yield from tree.header
        yield tree.body
    elif tree.becomes is not None:
        yield tree.becomes
    if not isinstance(tree, Group):
        yield from tree.links


def leaves(tree: Tree) -> int:
    """How many calls are in it."""
    return isinstance(tree, Leaf) + sum(map(leaves, parts(tree)))


def depth(tree: Tree) -> int:
    """1 for a leaf with nothing on it."""
    return 1 + max(map(depth, parts(tree)), default=0)


# -- what a leaf returns ------------------------------------------------------------------------------------


def mark(label: str, args: tuple[Any, ...] | list[Any]) -> str:
    """The value of a leaf: what it is and all that it got, in order; a digest where that grows long."""
    text = ",".join(map(_shown, args))
    if len(text) > READABLE:
        text = "#" + hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{label}({text})"


def _shown(value: Any) -> str:
    return f"[{','.join(map(_shown, value))}]" if isinstance(value, (list, tuple)) else str(value)


# -- as JSON, as text ---------------------------------------------------------------------------------------


def dump(tree: Tree) -> dict[str, Any]:
    """As JSON values; what is at its default is left out."""
    found: dict[str, Any] = {"kind": type(tree).__name__}
    for name, field in type(tree).__dataclass_fields__.items():
        value = getattr(tree, name)
        if value == field.default:
            continue
        if name == "errbacks":
            found[name] = [asdict(one) for one in value]
        elif isinstance(value, tuple):
            found[name] = [dump(one) for one in value]
        else:
            found[name] = dump(value) if isinstance(value, (Leaf, Chain, Group, Chord)) else value
    return found


def load(value: dict[str, Any]) -> Tree:
    """The reverse of `dump`."""
    made: dict[str, Any] = {}
    for name, given in value.items():
        if name == "errbacks":
            made[name] = tuple(Errback(**one) for one in given)
        elif isinstance(given, list):
            made[name] = tuple(load(one) for one in given)
        elif isinstance(given, dict):
            made[name] = load(given)
        elif name != "kind":
            made[name] = given
    tree: Tree = KINDS[value["kind"]](**made)
    return tree


def show(tree: Tree) -> str:
    """One line: ``a | [b, c!] >> d`` is a chain of `a` and a chord whose `c` fails."""
    if isinstance(tree, Leaf):
        text = tree.label + {"ok": "", "fail": "!", "retry": "~", "giveup": "~!"}.get(
            tree.how, f":{tree.how}"
        )
        text += "i" * tree.immutable + "+" * tree.own
        if tree.becomes is not None:
            text += f"<{show(tree.becomes)}>"
    elif isinstance(tree, Chain):
        text = "(" + (" | " if tree.piped else " ; ").join(map(show, tree.steps)) + ")"
    elif isinstance(tree, Group):
        text = "[" + ", ".join(map(show, tree.members)) + "]"
    else:
        arrow = " | " if tree.piped else " >> "
        text = "{[" + ", ".join(map(show, tree.header)) + "]" + arrow + show(tree.body) + "}"
    links = () if isinstance(tree, Group) else tree.links
    text += "".join(f".link({show(link)})" for link in links)
    return text + "".join(f".on_error({one.label}{'*' * (one.style == 'new')})" for one in tree.errbacks)


def relabelled(tree: Tree) -> Tree:
    """The same with the labels a, b, c … in the order of reading, errbacks X1, X2 …."""
    names = iter(f"t{n}" for n in range(10_000))
    errors = iter(f"X{n}" for n in range(10_000))

    def go(node: Tree) -> Tree:
        changes: dict[str, Any] = {
            "errbacks": tuple(replace(one, label=next(errors)) for one in node.errbacks)
        }
        if isinstance(node, Leaf):
            changes |= {"label": next(names)}
            changes |= {"becomes": go(node.becomes) if node.becomes is not None else None}
        elif isinstance(node, Chain):
            changes |= {"steps": tuple(map(go, node.steps))}
        elif isinstance(node, Group):
            changes |= {"members": tuple(map(go, node.members))}
        else:
            changes |= {"header": tuple(map(go, node.header)), "body": go(node.body)}
        if not isinstance(node, Group):
            changes["links"] = tuple(map(go, node.links))
        return replace(node, **changes)

    return go(tree)
