"""From a URL's scheme to the class that serves it: the only dynamic import of the package.

1. Our own transports and result stores, by the table in `schemes.py`.
2. Others, by entry point: groups ``celeriac.brokers`` and ``celeriac.backends``; the entry's name is the
   scheme, its object a class that is called with (url, options). A class path in place of a scheme works as
   well. Result stores that were written for Celery are found likewise, and in ``celery.result_backends``.
3. The errors: an unknown scheme names its neighbours, a missing library names what to install.

Not here: settings, and when a connection is made (`app.base` composes).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from celeriac._state import get_current_app
from celeriac.exceptions import ImproperlyConfigured
from celeriac.schemes import BACKENDS, BROKERS, CELERYS_OWN, EXTRAS, Plugin

if TYPE_CHECKING:
    from celeriac.backends.base import ResultBackend
    from celeriac.brokers.base import Broker, Queue

__all__ = [
    "BACKENDS",
    "BROKERS",
    "Plugin",
    "backend_from_url",
    "backend_settings",
    "broker_from_url",
    "is_store",
    "keeps_results",
    "load_class",
    "scheme_of",
]


#: Where packages for Celery announce result stores; what such a class has; what puts it behind our seam.
_CELERYS_GROUP: Final = "celery.result_backends"
_CELERYS: Final = ("store_result", "get_task_meta", "forget")
_ADAPTER: Final = "celeriac.app.foreign.adapter:ForeignBackend"


def scheme_of(url: str) -> str:
    """The scheme of `url`, lower-case; a bare word such as ``redis`` or ``disabled`` is its own scheme.

    Example:
        >>> scheme_of("redis://localhost/1"), scheme_of("memory")
        ('redis', 'memory')
    """
    return url.partition("://")[0].strip().rstrip(":").lower()


def broker_from_url(
    url: str,
    options: Mapping[str, Any] | None = None,
    declarations: Callable[[str], Sequence[Queue]] | None = None,
) -> Broker:
    """Make the broker that `url` names. Nothing is connected yet.

    Args:
        url: e.g. ``sqlite://``, ``redis://localhost:6379/0``.
        options: the transport's own options (`broker_transport_options`).
        declarations: tells what the application says of a queue, for brokers that declare queues themselves.

    Raises:
        ImproperlyConfigured: the scheme is unknown, or a library that it needs is not installed.
    """
    plugin = _listed(BROKERS, scheme_of(url))
    if declarations is not None and plugin is not None and plugin.declares:
        options = {"declarations": declarations, **(options or {})}
    return _make("broker", "celeriac.brokers", BROKERS, url, options)  # type: ignore[no-any-return]


def backend_from_url(url: str, options: Mapping[str, Any] | None = None, app: Any = None) -> ResultBackend:
    """Make the result store that `url` names; as `broker_from_url`.

    Args:
        url, options: as of `broker_from_url`.
        app: the application, which stores that were written for Celery are made with; by default the
            current one.
    """
    return _make(  # type: ignore[no-any-return]
        "result backend", "celeriac.backends", BACKENDS, url, options, app
    )


def _make(
    what: str,
    group: str,
    table: Mapping[str, Plugin],
    url: str,
    options: Mapping[str, Any] | None,
    app: Any = None,
) -> Any:
    scheme = scheme_of(url)
    plugin = _listed(table, scheme)
    try:
        kind = load_class(plugin.path) if plugin else _foreign(what, group, table, scheme, url)
    except ModuleNotFoundError as exc:
        raise _missing_library(what, scheme, plugin, exc) from exc
    if plugin is None and table is BACKENDS and all(hasattr(kind, name) for name in _CELERYS):
        adapted = load_class(_ADAPTER)
        return adapted(kind, get_current_app() if app is None else app, _after_plus(url))
    return kind(url if "://" in url else f"{url}://", dict(options or {}))


def backend_settings(url: str) -> tuple[str, ...]:
    """Names of the settings that the result store of `url` takes among its options.

    Example:
        >>> backend_settings("redis://localhost")
        ()
    """
    plugin = _listed(BACKENDS, scheme_of(url))
    return plugin.settings if plugin is not None else ()


def keeps_results(url: str) -> bool:
    """False when results may be sent to whoever made the call, instead of being kept; nothing is imported.

    Example:
        >>> keeps_results("redis://localhost"), keeps_results("rpc://")
        (True, False)
    """
    plugin = _listed(BACKENDS, scheme_of(url))
    return plugin is not None and not plugin.mailbox


def is_store(url: str) -> bool:
    """True when the broker of `url` is a store that results can be kept in as well.

    Example:
        >>> is_store("redis://localhost"), is_store("amqp://localhost")
        (True, False)
    """
    scheme = scheme_of(url)
    return _listed(BROKERS, scheme) is not None and _listed(BACKENDS, scheme) is not None


def _after_plus(url: str) -> str | None:
    """The URL as Celery gives it to a store: without what stands before ``+``; None where there is none."""
    scheme, colon, rest = url.partition("://")
    return f"{scheme.rpartition('+')[2]}://{rest}" if colon else None


def _listed(table: Mapping[str, Plugin], scheme: str) -> Plugin | None:
    return table.get(scheme) or table.get(scheme.partition("+")[0] + "+")


def load_class(path: str) -> Any:
    """The object at ``package.module:name`` (or ``package.module.name``)."""
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _foreign(what: str, group: str, table: Mapping[str, Plugin], scheme: str, url: str) -> Any:
    """A class of another package: by entry point, else by its path standing where the scheme is."""
    from importlib.metadata import entry_points  # 15 ms that our own schemes need not pay

    groups = (_CELERYS_GROUP, group) if table is BACKENDS else (group,)
    installed = {entry.name: entry for each in groups for entry in entry_points(group=each)}
    entry = installed.get(scheme) or installed.get(scheme.partition("+")[0])
    if entry is not None:
        return entry.load()
    path = url.partition("://")[0].partition("+")[0]
    if "." in path or ":" in path:
        try:
            return load_class(path)
        except (ImportError, AttributeError, ValueError) as exc:
            raise ImproperlyConfigured(
                f"The {what} class {path!r} cannot be imported: {exc}. Write it as 'package.module:Class'; "
                "the class is called with (url, options)."
            ) from exc
    if table is BACKENDS and scheme in CELERYS_OWN:
        raise ImproperlyConfigured(
            f"There is no result backend for '{scheme}://' here; Celery has one. If Celery is installed as "
            f"well, its class can be used: result_backend = '{CELERYS_OWN[scheme]}+{url}'."
        )
    known = sorted({*table, *installed})
    close = difflib.get_close_matches(scheme, known, n=1)
    hint = f" Did you mean '{close[0]}://'?" if close else ""
    raise ImproperlyConfigured(
        f"There is no {what} for URLs that start with '{scheme}://'.{hint} Known are: {', '.join(known)}."
    )


def _missing_library(
    what: str, scheme: str, plugin: Plugin | None, exc: ModuleNotFoundError
) -> ImproperlyConfigured:
    missing = (exc.name or "").partition(".")[0]
    if missing == "celeriac" or not missing:
        return ImproperlyConfigured(f"The {what} for '{scheme}://' is not part of this version: {exc}.")
    extra = EXTRAS.get(missing, plugin.extra if plugin else "")
    advice = f"pip install 'celeriac[{extra}]'" if extra else f"pip install {missing}"
    return ImproperlyConfigured(
        f"The {what} for '{scheme}://' needs the library {missing!r}, which is not installed. Run: {advice}"
    )
