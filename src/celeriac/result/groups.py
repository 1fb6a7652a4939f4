"""`GroupResult`: the results of a group; a set with an id, that can be saved and restored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from celeriac import _state
from celeriac.result.base import ResultBase, result_from_tuple
from celeriac.result.many import ResultSet
from celeriac.wire.results import decode_group, encode_group

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.backends.base import ResultBackend

__all__ = ["GroupResult"]


class GroupResult(ResultSet, kind="group"):
    """The results of a group.

    Args:
        id: the group's id.
        results: the members' results, in order.
        parent: result of what came before the group in a chain.
    """

    id: str | None = None

    def __init__(
        self,
        id: str | None = None,
        results: Iterable[Any] | None = None,
        parent: ResultBase | None = None,
        **kwargs: Any,
    ) -> None:
        self.id = id
        self.parent = parent
        super().__init__(results or (), **kwargs)

    @property
    def children(self) -> list[Any]:
        """The members' results."""
        return self.results

    def save(self, backend: ResultBackend | None = None) -> None:
        """Save which results belong to the group, for `restore`."""
        app = self.app
        document = encode_group(self.as_tuple(), app.conf.result_serializer)
        (backend or app.backend).save_group(str(self.id), document, app.result_ttl)

    def delete(self, backend: ResultBackend | None = None) -> None:
        """Undo `save`."""
        (backend or self.app.backend).delete_group(str(self.id))

    @classmethod
    def restore(cls, id: str, backend: ResultBackend | None = None, app: Celeriac | None = None) -> Any:
        """Return the saved group with this id, or None."""
        owner: Any = app or cls._app or _state.get_current_app()
        document = (backend or owner.backend).load_group(id)
        if document is None:
            return None
        return result_from_tuple(decode_group(document, owner.conf.result_serializer), owner)

    def as_tuple(self) -> tuple[Any, Any]:
        """What `result_from_tuple` makes a group's results of."""
        parent = self.parent.as_tuple() if self.parent is not None else None
        return (self.id, parent), [result.as_tuple() for result in self.results]

    def as_list(self) -> list[str]:
        """The members' ids."""
        return [leaf.id for leaf in self._leaves()]

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return (other.id, other.results, other.parent) == (self.id, self.results, self.parent)
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<GroupResult: {self.id} [{', '.join(str(result) for result in self.results)}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        return GroupResult, (self.id, self.results, self.parent)
