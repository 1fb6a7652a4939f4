"""A list of broker URLs, put into the order in which they are to be tried.

1. `arranged`: `broker_url` (joined by ``;``) and `broker_failover_strategy` → the URL for the transport.

The transports do the rest, each with the means of its protocol: they try the hosts in this order, take the
first that is up and takes writes, and come back to the first when it is well again. All URLs of a list have
one scheme: what waits in one kind of broker can be fetched from no other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from celeriac.exceptions import ImproperlyConfigured
from celeriac.plugins import scheme_of

__all__ = ["Strategy", "arranged", "split"]

#: ``round-robin``, ``shuffle``, or a function of the list of URLs that gives them in the order to be tried
#: (for ever, if it likes: each URL counts when it comes first).
Strategy = str | Callable[[Sequence[str]], Iterable[str]] | None

#: Transports whose store is one file or one process.
_SINGLE = frozenset({"memory", "sqlite"})
_SEPARATOR = re.compile(r";(?=\s*[\w+.:-]*://)|;\s*$")


def split(url: str) -> list[str]:
    """The URLs of a list.

    Example:
        >>> split("redis://a;redis://b")
        ['redis://a', 'redis://b']
    """
    return [part.strip() for part in _SEPARATOR.split(url) if part.strip()]


def arranged(url: str, strategy: Strategy = None) -> str:
    """The list in the order to be tried.

    Raises:
        ImproperlyConfigured: the URLs have several schemes, the store is a single one, or the strategy is
            unknown or names other URLs.

    Example:
        >>> arranged("redis://a;redis://b", lambda urls: reversed(urls))
        'redis://b;redis://a'
    """
    urls = split(url)
    if len(urls) < 2:
        return url
    schemes = sorted({scheme_of(each) for each in urls})
    if len(schemes) > 1:
        raise ImproperlyConfigured(
            f"The broker URLs of a list must all have the same scheme; these have {', '.join(schemes)}. What "
            "waits in one kind of broker can be fetched from no other."
        )
    if schemes[0] in _SINGLE:
        raise ImproperlyConfigured(
            f"A list of {schemes[0]}:// URLs makes no sense: the store is one, so there is none to fail over "
            "to. Name one."
        )
    return ";".join(_ordered(urls, strategy))


def _ordered(urls: list[str], strategy: Strategy) -> list[str]:
    if strategy in (None, "", "round-robin"):
        return urls
    if strategy == "shuffle":
        return random.sample(urls, len(urls))
    if not callable(strategy):
        raise ImproperlyConfigured(
            f"broker_failover_strategy is {strategy!r}; it must be 'round-robin', 'shuffle', or a function "
            "that takes the list of URLs and gives them in the order to be tried."
        )
    found = list(dict.fromkeys(islice(iter(strategy(list(urls))), 20 * len(urls))))
    if not found or not set(found) <= set(urls):
        raise ImproperlyConfigured(
            "broker_failover_strategy gave no URL, or one that is not in broker_url. It takes the list of "
            "URLs and gives them in the order to be tried."
        )
    return found
