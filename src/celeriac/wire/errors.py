"""Exceptions as documents: how a failure crosses from one process to another.

1. `describe_exception`: type, module and arguments, as Celery writes them. It never raises, whatever the
   exception's own methods do, and its size is bounded.
2. `rebuild_exception`: the way back. Nothing is imported, called or constructed on the word of a document: a
   class must already be loaded, be found without running code, and derive from `Exception`; its instance is
   made by the builtin base's own machinery, never by the class's ``__new__`` or ``__init__``. Everything else
   becomes a `RemoteError` that keeps the names and arguments.

Celery's own exceptions (and billiard's and kombu's) stand for ours of the same name, in both directions.

Not here: traceback text (`execution/outcome.py`), result documents (`results.py`).
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping
from typing import Any, Final

from celeriac import exceptions
from celeriac.exceptions import EncodeError, RemoteError
from celeriac.wire import json
from celeriac.wire.saferepr import saferepr

__all__ = ["describe_exception", "rebuild_exception"]

#: Arguments that are kept, and characters of each one's JSON.
_MOST_ARGUMENTS: Final = 32
_LONGEST_ARGUMENT: Final = 16_384
_REPR: Final = 1024

_HOME: Final = "celeriac.exceptions"
_PEERS: Final = frozenset({"celery.exceptions", "billiard.exceptions", "kombu.exceptions", _HOME})
_BILLIARD: Final = frozenset({"SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated"})
_KOMBU: Final = frozenset({"ContentDisallowed", "DecodeError", "EncodeError", "OperationalError"})
_RENAMED: Final = {"CeleriacError": "CeleryError", "CeleriacWarning": "CeleryWarning"}

_BUILTINS: Final = frozenset(
    item for item in vars(builtins).values() if isinstance(item, type) and issubclass(item, BaseException)
)

# The slots of `type` and of BaseException themselves, which no metaclass and no property can stand before.
_qualname_of: Final = type.__dict__["__qualname__"].__get__
_module_of: Final = type.__dict__["__module__"].__get__
_mro_of: Final = type.__dict__["__mro__"].__get__
_dict_of: Final = type.__dict__["__dict__"].__get__
_args_of: Final = BaseException.__dict__["args"].__get__


# -- writing ----------------------------------------------------------------------------------------------


def describe_exception(exc: BaseException) -> dict[str, Any]:
    """Return ``{"exc_type", "exc_message", "exc_module"}`` with plain JSON values; never raise.

    Example:
        >>> describe_exception(ValueError("x", 3))
        {'exc_type': 'ValueError', 'exc_message': ['x', 3], 'exc_module': 'builtins'}
    """
    kind = type(exc)
    try:
        if kind is RemoteError:  # goes on as what it stands for
            module, name, args = str(exc.exc_module), str(exc.exc_type), tuple(exc.exc_args)  # type: ignore[attr-defined]
        else:
            module, name = _written_as(kind)
            args = _args_of(exc)
        message = [_argument(arg) for arg in args[:_MOST_ARGUMENTS]]
        if len(args) > _MOST_ARGUMENTS:
            message.append(f"... {len(args) - _MOST_ARGUMENTS} more arguments")
    except BaseException as problem:  # the failure must be stored, however broken its exception is
        module, name = "builtins", "Exception"
        message = [f"an exception that could not be described ({type(problem).__name__})"]
    return {"exc_type": name, "exc_message": message, "exc_module": module}


def _written_as(kind: type[BaseException]) -> tuple[str, str]:
    """Module and name under which peers know the class."""
    module, name = str(_module_of(kind)), str(_qualname_of(kind))
    if not module.startswith("celeriac."):
        return module, name
    for base in _mro_of(kind):
        if _module_of(base) == _HOME and base is not RemoteError:
            name = _qualname_of(base)
            if name in _BILLIARD:
                return "billiard.exceptions", name
            if name in _KOMBU:
                return "kombu.exceptions", name
            return "celery.exceptions", _RENAMED.get(name, name)
    return module, name


def _argument(value: Any) -> Any:
    """One argument as plain JSON; what does not fit is kept as text."""
    kind = type(value)
    if kind is str:
        if len(value) <= _LONGEST_ARGUMENT:
            return value
        return f"{value[:_LONGEST_ARGUMENT]}... {len(value) - _LONGEST_ARGUMENT} more characters"
    if value is None or kind is bool or kind is float:
        return value
    try:
        text = json.dumps_text(value)
    except EncodeError:
        return saferepr(value, _REPR)
    return json.loads_plain(text) if len(text) <= _LONGEST_ARGUMENT else saferepr(value, _REPR)


# -- reading ----------------------------------------------------------------------------------------------


def rebuild_exception(document: Any) -> Exception:
    """Return the exception that `document` describes, or a `RemoteError` in its place; never raise.

    Args:
        document: what `describe_exception` returned, after its way through a store; or anything else that
            was found there.

    Example:
        >>> rebuild_exception({"exc_type": "ValueError", "exc_message": ["x"], "exc_module": "builtins"})
        ValueError('x')
        >>> rebuild_exception({"exc_type": "SystemExit", "exc_message": [1], "exc_module": "builtins"})
        RemoteError('SystemExit', 'builtins', (1,))
    """
    if issubclass(type(document), Exception):  # pickle brings it whole
        whole: Exception = document
        return whole
    if issubclass(type(document), BaseException):
        document = describe_exception(document)
    if not issubclass(type(document), dict):
        return RemoteError("Exception", "", (saferepr(document, _REPR),))
    name = document.get("exc_type")
    module = document.get("exc_module")
    message = document.get("exc_message")
    args = tuple(message) if isinstance(message, (list, tuple)) else () if message is None else (message,)
    name = name if isinstance(name, str) else "Exception"
    module = module if isinstance(module, str) else ""
    kind = _find(module, name)
    if kind is not None:
        try:
            return _make(kind, args)
        except Exception:
            pass  # arguments that its builtin base refuses: the stand-in keeps them
    return RemoteError(name, module, args)


def _find(module: str, name: str) -> type[Exception] | None:
    """The class, if it is loaded and can be reached without running anybody's code."""
    if module in _PEERS:
        namespace: Mapping[str, Any] = vars(exceptions)
    else:
        loaded = sys.modules.get(module)
        if loaded is None:
            return None
        try:
            # not vars(): a lazily loaded module would load itself
            namespace = object.__getattribute__(loaded, "__dict__")
        except AttributeError:
            return None
    found: Any = None
    for part in name.split("."):
        found = namespace.get(part)
        if not issubclass(type(found), type):  # not isinstance(): a proxy would wake up
            return None
        namespace = _dict_of(found)
    return found if Exception in _mro_of(found) and found is not RemoteError else None


def _make(kind: type[Exception], args: tuple[Any, ...]) -> Exception:
    """An instance without a call of the class's own methods."""
    if _module_of(kind) == _HOME:
        return kind(*args)  # ours: their constructors set what their texts need
    base = next(item for item in _mro_of(kind) if item in _BUILTINS)
    exc: Exception = base.__new__(kind, *args)
    base.__init__(exc, *args)
    return exc
