"""The methods of AMQP 0-9-1, but for the hot ones: their numbers and the bytes of their arguments.

1. `FORMATS`: the arguments of each method, a letter each: ``o`` octet, ``h`` 16 bits, ``i`` 32 bits, ``q``
   64 bits, ``b`` a bit (neighbours share an octet), ``s`` short string, ``S`` long string, ``t`` table.
2. `dumps`, `loads`: a method frame's payload, and back to the arguments.

A method's number is its class in the upper 16 bits and its index in the class in the lower.

Not here: basic.deliver (`frames.py`), basic.publish and the acknowledgements (`channel.py`).
"""

from __future__ import annotations

import struct
from typing import Any, Final

from celeriac.transport.amqp import table
from celeriac.transport.amqp.table import Malformed

__all__ = ["FORMATS", "dumps", "loads"]

CONNECTION_START: Final = 0x000A_000A
CONNECTION_START_OK: Final = 0x000A_000B
CONNECTION_SECURE: Final = 0x000A_0014
CONNECTION_TUNE: Final = 0x000A_001E
CONNECTION_TUNE_OK: Final = 0x000A_001F
CONNECTION_OPEN: Final = 0x000A_0028
CONNECTION_OPEN_OK: Final = 0x000A_0029
CONNECTION_CLOSE: Final = 0x000A_0032
CONNECTION_CLOSE_OK: Final = 0x000A_0033
CONNECTION_BLOCKED: Final = 0x000A_003C
CONNECTION_UNBLOCKED: Final = 0x000A_003D
CONNECTION_UPDATE_SECRET_OK: Final = 0x000A_0047
CHANNEL_OPEN: Final = 0x0014_000A
CHANNEL_OPEN_OK: Final = 0x0014_000B
CHANNEL_FLOW: Final = 0x0014_0014
CHANNEL_FLOW_OK: Final = 0x0014_0015
CHANNEL_CLOSE: Final = 0x0014_0028
CHANNEL_CLOSE_OK: Final = 0x0014_0029
EXCHANGE_DECLARE: Final = 0x0028_000A
EXCHANGE_DELETE: Final = 0x0028_0014
EXCHANGE_BIND: Final = 0x0028_001E
QUEUE_DECLARE: Final = 0x0032_000A
QUEUE_BIND: Final = 0x0032_0014
QUEUE_PURGE: Final = 0x0032_001E
QUEUE_DELETE: Final = 0x0032_0028
QUEUE_UNBIND: Final = 0x0032_0032
BASIC_QOS: Final = 0x003C_000A
BASIC_CONSUME: Final = 0x003C_0014
BASIC_CANCEL: Final = 0x003C_001E
BASIC_CANCEL_OK: Final = 0x003C_001F
BASIC_PUBLISH: Final = 0x003C_0028
BASIC_RETURN: Final = 0x003C_0032
BASIC_DELIVER: Final = 0x003C_003C
BASIC_GET: Final = 0x003C_0046
BASIC_GET_OK: Final = 0x003C_0047
BASIC_GET_EMPTY: Final = 0x003C_0048
BASIC_ACK: Final = 0x003C_0050
BASIC_NACK: Final = 0x003C_0078
CONFIRM_SELECT: Final = 0x0055_000A

FORMATS: Final[dict[int, str]] = {
    CONNECTION_START: "ootSS",
    CONNECTION_START_OK: "tsSs",
    CONNECTION_SECURE: "S",
    CONNECTION_TUNE: "hih",
    CONNECTION_TUNE_OK: "hih",
    CONNECTION_OPEN: "ssb",
    CONNECTION_OPEN_OK: "s",
    CONNECTION_CLOSE: "hsi",
    CONNECTION_CLOSE_OK: "",
    CONNECTION_BLOCKED: "s",
    CONNECTION_UNBLOCKED: "",
    CONNECTION_UPDATE_SECRET_OK: "",
    CHANNEL_OPEN: "s",
    CHANNEL_OPEN_OK: "S",
    CHANNEL_FLOW: "b",
    CHANNEL_FLOW_OK: "b",
    CHANNEL_CLOSE: "hsi",
    CHANNEL_CLOSE_OK: "",
    EXCHANGE_DECLARE: "hssbbbbbt",
    EXCHANGE_DECLARE + 1: "",
    EXCHANGE_DELETE: "hsbb",
    EXCHANGE_DELETE + 1: "",
    EXCHANGE_BIND: "hsssbt",
    EXCHANGE_BIND + 1: "",
    QUEUE_DECLARE: "hsbbbbbt",
    QUEUE_DECLARE + 1: "sii",
    QUEUE_BIND: "hsssbt",
    QUEUE_BIND + 1: "",
    QUEUE_UNBIND: "hssst",
    QUEUE_UNBIND + 1: "",
    QUEUE_PURGE: "hsb",
    QUEUE_PURGE + 1: "i",
    QUEUE_DELETE: "hsbbb",
    QUEUE_DELETE + 1: "i",
    BASIC_QOS: "ihb",
    BASIC_QOS + 1: "",
    BASIC_CONSUME: "hssbbbbt",
    BASIC_CONSUME + 1: "s",
    BASIC_CANCEL: "sb",
    BASIC_CANCEL_OK: "s",
    BASIC_RETURN: "hsss",
    BASIC_DELIVER: "sqbss",
    BASIC_GET: "hsb",
    BASIC_GET_OK: "qbssi",
    BASIC_GET_EMPTY: "s",
    BASIC_ACK: "qb",
    BASIC_NACK: "qbb",
    BASIC_PUBLISH: "hssbb",
    CONFIRM_SELECT: "b",
    CONFIRM_SELECT + 1: "",
}

_SIZES: Final = {"o": 1, "h": 2, "i": 4, "q": 8}


def dumps(method: int, *arguments: Any) -> bytes:
    """The payload of a method frame.

    Raises:
        EncodeError: a name is longer than 255 bytes, or a table cannot be written.
    """
    out = [method.to_bytes(4, "big")]
    bits: list[bool] = []
    for letter, value in zip(FORMATS[method], arguments, strict=True):
        if letter == "b":
            bits.append(bool(value))
            continue
        if bits:
            out.append(_octet(bits))
            bits.clear()
        if letter == "s":
            out.append(table.short_text(value, "a name"))
        elif letter in "St":
            raw = value if isinstance(value, bytes) else table.dumps(value)
            out += (len(raw).to_bytes(4, "big"), raw)
        else:
            out.append(int(value).to_bytes(_SIZES[letter], "big"))
    if bits:
        out.append(_octet(bits))
    return b"".join(out)


def _octet(bits: list[bool]) -> bytes:
    return bytes([sum(bit << position for position, bit in enumerate(bits))])


def loads(method: int, data: bytes, at: int, end: int) -> list[Any]:
    """The arguments in ``data[at:end]``. Long strings are bytes.

    Raises:
        Malformed: no such method, or these are not its arguments.
    """
    form = FORMATS.get(method)
    if form is None:
        raise Malformed(f"the method {method >> 16}.{method & 0xFFFF} is unknown")
    values: list[Any] = []
    bit = 8
    try:
        for letter in form:
            if letter == "b":
                if bit == 8:
                    bit, octet, at = 0, data[at], at + 1
                values.append(bool(octet >> bit & 1))
                bit += 1
                continue
            bit = 8
            if letter in _SIZES:
                size = _SIZES[letter]
                values.append(int.from_bytes(data[at : at + size], "big"))
            elif letter == "s":
                size = 1 + data[at]
                values.append(data[at + 1 : at + size].decode("utf-8", "surrogateescape"))
            else:
                size = 4 + struct.unpack_from(">I", data, at)[0]
                if at + size > end:
                    raise Malformed("an argument is longer than its frame")
                raw = data[at + 4 : at + size]
                values.append(raw if letter == "S" else table.loads(raw, 0, len(raw)))
            at += size
    except (IndexError, struct.error) as exc:
        raise Malformed("the arguments of a method break off") from exc
    if at > end:
        raise Malformed("the arguments of a method break off")
    return values
