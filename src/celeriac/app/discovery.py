"""`-A`: from a name to an app.

1. `find_app`: ``module:attribute``, ``module`` or ``package``; a package's app may live in its submodule
   ``celeriac`` or ``celery``.

Not here: what a command says when there is none (`bin/context.py`).
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from celeriac.app.loading import cwd_in_path

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["find_app"]

#: Names that are tried in a module, in this order.
_NAMES: Final = ("app", "celeriac", "celery")
#: Submodules of a package in which its app may live.
_SUBMODULES: Final = ("celeriac", "celery")


def find_app(app: str) -> Celeriac:
    """The app that `app` names; modules are looked for in the working directory, too.

    The rules: ``module:attribute`` is that attribute (a function without parameters is called). ``module`` is
    its `app`, else its `celeriac` or `celery`; for a package the same in its submodule ``celeriac`` or
    ``celery``; else the one app that the module holds under any name.

    Raises:
        ModuleNotFoundError: there is no such module.
        AttributeError: the module holds no app; the text says where was looked.

    Example:
        ``find_app("proj")``, ``find_app("proj.tasks:app")``
    """
    with cwd_in_path():
        module_name, _, attribute = app.partition(":")
        if attribute:
            return _attribute(importlib.import_module(module_name), attribute)
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as exc:
            parent, _, attribute = module_name.rpartition(".")
            if not parent or exc.name != module_name:
                raise
            module = importlib.import_module(parent)  # package.module.attribute
            if not hasattr(module, attribute):
                raise exc from None
            return _attribute(module, attribute)
        found = _in_module(module) or _in_submodule(module) or _only_one(module)
        if found is None:
            raise AttributeError(
                f"the module {module_name!r} holds no application: neither under the names "
                f"{', '.join(_NAMES)}, nor in a submodule {' or '.join(_SUBMODULES)}, nor exactly one under "
                f"any other name. Write app = Celeriac({module_name!r}) in it, or name the attribute: "
                f"{module_name}:attribute"
            )
        return found


def _is_app(value: Any) -> bool:
    from celeriac.app.base import Celeriac
    from celeriac.local import Proxy

    return isinstance(value, Celeriac) and not issubclass(type(value), Proxy)


def _attribute(module: ModuleType, path: str) -> Celeriac:
    found: Any = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise AttributeError(f"the module {module.__name__!r} has no attribute {path!r}") from None
    if isinstance(found, ModuleType):
        return find_app(found.__name__)
    if callable(found) and not _is_app(found):
        found = found()  # a factory
    if not _is_app(found):
        raise AttributeError(f"{module.__name__}:{path} is no Celeriac application but {found!r:.100}")
    return found  # type: ignore[no-any-return]


def _in_module(module: ModuleType) -> Celeriac | None:
    for name in _NAMES:
        found = getattr(module, name, None)
        if _is_app(found):
            return found
    return None


def _in_submodule(module: ModuleType) -> Celeriac | None:
    if not hasattr(module, "__path__"):
        return None
    for name in _SUBMODULES:
        full = f"{module.__name__}.{name}"
        try:
            submodule = importlib.import_module(full)
        except ModuleNotFoundError as exc:
            if exc.name != full:
                raise
            continue
        found = _in_module(submodule) or _only_one(submodule)
        if found is not None:
            return found
    return None


def _only_one(module: ModuleType) -> Celeriac | None:
    apps = {id(value): value for value in vars(module).values() if _is_app(value)}
    return next(iter(apps.values())) if len(apps) == 1 else None
