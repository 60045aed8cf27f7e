"""Names as bytes of a file: UTF-8, and what is no Unicode as the system has it."""

from __future__ import annotations

import codecs

__all__ = ["AS_THE_SYSTEM_HAS_IT"]

AS_THE_SYSTEM_HAS_IT = "aum.as_the_system_has_it"
"""An ``errors=`` of `str.encode` and `open` with which writing in UTF-8 never fails, whatever files are called.

Where names are bytes, Python hides one that is no UTF-8 as U+DC80 to U+DCFF: it comes out as it went in. On Windows
they are 16-bit numbers, and half of a pair may stand alone: it comes out as three bytes, as Windows' own Python does.
"""


def _as_the_system_has_it(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return b"".join(map(_bytes_of, letters)), error.end


def _bytes_of(surrogate: str) -> bytes:
    is_hidden_byte = "\udc80" <= surrogate <= "\udcff"
    return surrogate.encode("utf-8", "surrogateescape" if is_hidden_byte else "surrogatepass")


codecs.register_error(AS_THE_SYSTEM_HAS_IT, _as_the_system_has_it)
