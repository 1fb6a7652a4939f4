"""The TLS context of a RabbitMQ connection.

1. `context`: from the options of `broker_use_ssl` (with or without the prefix ``ssl_``) to an
   `ssl.SSLContext`.

Nothing is trusted that was not asked for: without options the certificate must be valid, by the system's
authorities, and for the host in the URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celeriac.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    import ssl

__all__ = ["context"]


def context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Make the context.

    Options: ``ca_certs`` (file), ``ca_path`` (folder), ``ca_data``; ``certfile``, ``keyfile``, ``password``
    (our own certificate, for EXTERNAL); ``cert_reqs`` (``required``, ``optional``, ``none`` or the numbers
    of the module `ssl`); ``check_hostname``; ``ciphers``; ``context`` (a ready `ssl.SSLContext`, which then
    decides everything).

    Raises:
        ImproperlyConfigured: a value is not understood, or a file cannot be read.
    """
    import ssl  # 4 MB and 20 ms: only for those who use it

    ready = options.get("context")
    if isinstance(ready, ssl.SSLContext):
        return ready
    levels = {
        "none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED,
        "0": ssl.CERT_NONE, "1": ssl.CERT_OPTIONAL, "2": ssl.CERT_REQUIRED,
    }  # fmt: skip
    given = options.get("cert_reqs", "required")
    needed = str(int(given) if isinstance(given, int) else given).rpartition("CERT_")[2].lower()
    if needed not in levels:
        raise ImproperlyConfigured(f"ssl_cert_reqs is {given!r}; write 'required', 'optional' or 'none'.")
    try:
        made = ssl.create_default_context(
            cafile=options.get("ca_certs") or None,
            capath=options.get("ca_path") or None,
            cadata=options.get("ca_data") or None,
        )
        if options.get("certfile"):
            made.load_cert_chain(
                options["certfile"], options.get("keyfile") or None, options.get("password") or None
            )
        if options.get("ciphers"):
            made.set_ciphers(options["ciphers"])
    except (OSError, ssl.SSLError) as exc:
        raise ImproperlyConfigured(
            f"The TLS options of the RabbitMQ connection cannot be used: {exc}."
        ) from exc
    by_name = str(options.get("check_hostname", "true")).lower() not in ("false", "0", "no")
    made.check_hostname = by_name and levels[needed] == ssl.CERT_REQUIRED
    made.verify_mode = levels[needed]
    return made
