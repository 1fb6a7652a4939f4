"""Objects that stand for other objects which are looked up on every use.

1. `Proxy`: forwards everything to what its function returns (`current_app`, `current_task`, shared tasks).

Not here: what is current (`_state.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Proxy", "resolve"]


class Proxy:
    """Stands for the object that `find` returns now.

    Example:
        >>> things = [1, 2]
        >>> last = Proxy(lambda: things[-1])
        >>> last == 2, (things.append(3), last == 3)[1]
        (True, True)
    """

    __slots__ = ("_Proxy__find", "__dict__", "__weakref__")

    def __init__(self, find: Callable[[], Any]) -> None:
        object.__setattr__(self, "_Proxy__find", find)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(resolve(self))

    def _get_current_object(self) -> Any:
        """What it stands for (the name that Celery's users know)."""
        return resolve(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(resolve(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(resolve(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(resolve(self), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return resolve(self)(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(resolve(self))

    def __str__(self) -> str:
        return str(resolve(self))

    def __dir__(self) -> list[str]:
        return dir(resolve(self))

    def __bool__(self) -> bool:
        return bool(resolve(self))

    def __eq__(self, other: object) -> bool:
        return bool(resolve(self) == resolve(other))

    def __hash__(self) -> int:
        return hash(resolve(self))

    def __getitem__(self, key: Any) -> Any:
        return resolve(self)[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        resolve(self)[key] = value

    def __delitem__(self, key: Any) -> None:
        del resolve(self)[key]

    def __contains__(self, key: Any) -> bool:
        return key in resolve(self)

    def __iter__(self) -> Iterator[Any]:
        return iter(resolve(self))

    def __len__(self) -> int:
        return len(resolve(self))

    def __or__(self, other: Any) -> Any:
        return resolve(self) | other

    def __enter__(self) -> Any:
        return resolve(self).__enter__()

    def __exit__(self, *exc_info: Any) -> Any:
        return resolve(self).__exit__(*exc_info)

    def __reduce__(self) -> Any:
        return resolve(self).__reduce__()


def resolve(thing: Any) -> Any:
    """What `thing` stands for: itself unless it is a `Proxy`."""
    if issubclass(type(thing), Proxy):
        return object.__getattribute__(thing, "_Proxy__find")()
    return thing
