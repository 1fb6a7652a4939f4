"""Values that older versions of Celery pickled into SQL tables, read without running anybody's code.

1. `is_pickle`: tells a pickle from JSON, YAML and MessagePack by its first bytes.
2. `loads`: plain values, dates, decimals, UUIDs. Of any other class only the name and the arguments are kept;
   a value that needs more than these is refused.
3. `described`: an exception that was pickled, as the description that `errors.py` reads; `tuple_of`: a
   pickled result of a group, as the tuple that `AsyncResult.as_tuple` gives.

A pickle is a program. This one is run on a machine that has no instructions but these constructors: nothing
is imported, no class of its own choice is instantiated, no attribute is set on anything but a stand-in.

Not here: the serializer ``pickle``, which trusts what it reads (`serialization.py`).
"""

from __future__ import annotations

import io
import pickle
import pickletools
import uuid
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, NoReturn

from celeriac.exceptions import DecodeError
from celeriac.wire.saferepr import saferepr

__all__ = ["Stranger", "described", "is_pickle", "loads", "tuple_of"]

#: Bytes of a pickle at most: what it holds was the result of one task.
LIMIT: Final = 256 << 20
_OLD_NAMES: Final = {"__builtin__": "builtins", "exceptions": "builtins", "copy_reg": "copyreg"}
_WRAPPER: Final = "UnpickleableExceptionWrapper"


class Stranger:
    """Stands for an instance of a class that is not read: its name, and the arguments it was made with."""

    module: str = ""
    name: str = ""

    def __new__(cls, *args: Any) -> Stranger:
        self = object.__new__(cls)
        self.__dict__["args"] = args
        return self

    def __setstate__(self, state: Any) -> None:
        """What it held is of no use without its class."""

    def append(self, item: Any) -> None:
        """As `__setstate__`."""

    def extend(self, items: Iterable[Any]) -> None:
        """As `__setstate__`."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """As `__setstate__`."""

    @property
    def given(self) -> tuple[Any, ...]:
        """The arguments."""
        found: tuple[Any, ...] = self.__dict__["args"]
        return found

    def __repr__(self) -> str:
        return f"<{self.module}.{self.name}>"


def is_pickle(data: bytes) -> bool:
    """True when `data` is a pickle of protocol 2 or later; no other serializer's bytes begin like that.

    Example:
        >>> is_pickle(bytes.fromhex("80044b052e")), is_pickle(b"5"), is_pickle(bytes.fromhex("80"))
        (True, False, False)
    """
    return len(data) > 2 and data[0] == 0x80 and 2 <= data[1] <= 5


def loads(data: bytes) -> Any:
    """Return the value. At the top, and there only, it may be a `Stranger`.

    Raises:
        DecodeError: it is damaged, or holds instances of other classes.

    Example:
        >>> import pickle
        >>> loads(pickle.dumps((1, "a")))
        (1, 'a')
    """
    try:
        _check(data)
        value = _Reader(io.BytesIO(data)).load()
    except DecodeError:
        raise
    except Exception as exc:  # a damaged pickle raises almost anything
        raise DecodeError(f"a damaged pickle: {type(exc).__name__}: {exc}") from exc
    if not isinstance(value, Stranger):
        _refuse_strangers(value)
    return value


def described(value: Any) -> Any:
    """A `Stranger` at the top as the description of an exception; anything else as it is."""
    if not isinstance(value, Stranger):
        return value
    module, name, args = value.module, value.name, value.given
    if name == _WRAPPER and len(args) >= 3:  # Celery's own stand-in, for exceptions that cannot be pickled
        module, name, args = str(args[0]), str(args[1]), args[2]
    items = args if isinstance(args, (list, tuple)) else (args,)
    return {"exc_type": name, "exc_message": [_plain(arg) for arg in items], "exc_module": module}


def tuple_of(value: Any) -> Any:
    """``((id, parent), children)`` of a pickled `GroupResult` or `AsyncResult`; other values as they are.

    Raises:
        DecodeError: it is an object of another class.
    """
    if isinstance(value, Stranger):
        args = value.given
        if value.module.endswith(".result") and args and isinstance(args[0], str):
            if value.name == "AsyncResult":
                parent = args[4] if len(args) > 4 else None
                return [[args[0], None if parent is None else tuple_of(parent)], None]
            if value.name in ("GroupResult", "ResultSet") and len(args) > 1 and isinstance(args[1], list):
                return [[args[0], None], [tuple_of(item) for item in args[1]]]
        _refuse(value)
    return value


def _plain(value: Any) -> Any:
    try:
        _refuse_strangers(value)
    except DecodeError:
        return saferepr(value, 1024)
    return value


# -- the reader -------------------------------------------------------------------------------------------


def _check(data: bytes) -> None:
    """Refuse what would make the reader reserve memory that the pickle does not fill."""
    if len(data) > LIMIT:
        raise DecodeError(f"a pickle of {len(data)} bytes; {LIMIT} are the limit")
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "LONG_BINPUT", "BINPUT") and (argument or 0) > len(data):
            raise DecodeError("a damaged pickle: it numbers more values than it has")
        if opcode.name in ("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"):
            raise DecodeError(f"a pickle with the instruction {opcode.name}, which is not read")


class _Reader(pickle.Unpickler):
    """Finds the constructors below and nothing else."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._strangers: dict[tuple[str, str], type[Stranger]] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        module = _OLD_NAMES.get(module, module)
        known = _CONSTRUCTORS.get((module, name))
        if known is not None:
            return known
        kind = self._strangers.get((module, name))
        if kind is None:
            kind = type("Stranger", (Stranger,), {"module": module, "name": name})
            self._strangers[module, name] = kind
        return kind


def _decode_text(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise DecodeError(f"a pickle that encodes text as {encoding!r}")
    return text.encode("latin-1")


def _bytearray(data: bytes | str = b"", encoding: str = "latin-1") -> bytearray:
    return bytearray(data if isinstance(data, bytes) else _decode_text(data, encoding))


def _items(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    """A collection from a list of items; never from what would count how many by itself."""

    def make(items: Any = ()) -> Any:
        if not isinstance(items, (list, tuple, dict, set, frozenset)):
            raise DecodeError("a pickle that makes a collection of something else than its items")
        return kind(items)

    return make


def _default_dict(factory: Any = None, items: Any = ()) -> dict[Any, Any]:
    made: dict[Any, Any] = _items(dict)(items)
    return made


def _deque(items: Any = (), size: int | None = None) -> list[Any]:
    made: list[Any] = _items(list)(items)
    return made


class _Uuid(uuid.UUID):
    """Made empty, then told its number, as pickles do; then it is an ordinary UUID."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *args: Any) -> None:
        """The number comes later."""

    def __setstate__(self, state: Any) -> None:
        number = state.get("int") if isinstance(state, dict) else None
        if type(number) is not int or not 0 <= number < 1 << 128:
            raise DecodeError("a damaged UUID in a pickle")
        object.__setattr__(self, "int", number)
        object.__setattr__(self, "is_safe", uuid.SafeUUID.unknown)
        object.__setattr__(self, "__class__", uuid.UUID)


_CONSTRUCTORS: Final[dict[tuple[str, str], Any]] = {
    ("_codecs", "encode"): _decode_text,
    ("builtins", "bytearray"): _bytearray,
    ("builtins", "complex"): complex,
    ("builtins", "dict"): _items(dict),
    ("builtins", "frozenset"): _items(frozenset),
    ("builtins", "list"): _items(list),
    ("builtins", "set"): _items(set),
    ("builtins", "tuple"): _items(tuple),
    ("collections", "OrderedDict"): _items(dict),
    ("collections", "defaultdict"): _default_dict,
    ("collections", "deque"): _deque,
    ("datetime", "date"): date,
    ("datetime", "datetime"): datetime,
    ("datetime", "time"): time,
    ("datetime", "timedelta"): timedelta,
    ("datetime", "timezone"): timezone,
    ("decimal", "Decimal"): Decimal,
    ("uuid", "UUID"): _Uuid,
    ("uuid", "SafeUUID"): lambda value: None,
}


def _refuse_strangers(value: Any) -> None:
    """Raise `DecodeError` when there is a `Stranger` anywhere in `value`."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Stranger) or (isinstance(item, type) and issubclass(item, Stranger)):
            _refuse(item)
        if callable(item):
            raise DecodeError("a pickle that holds a function or a class")
        if isinstance(item, (list, tuple, set, frozenset, dict)) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item)
            if isinstance(item, dict):
                waiting.extend(item.values())


def _refuse(item: Any) -> NoReturn:
    raise DecodeError(
        f"it was pickled with an object of the class {item.module}.{item.name}, and unpickling that could "
        "run anybody's code. If nobody but your own workers can write to the result store, set "
        "`result_serializer = 'pickle'` to read it."
    )
