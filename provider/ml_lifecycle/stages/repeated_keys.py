"""Which keys come more than once, among more of them than memory holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.stages.ahead import ahead

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    Read = Callable[[], Iterable[pa.ChunkedArray]]

_WORD: Final = 8
_MIX: Final = 0xFF51AFD7ED558CCD
"""A factor of MurmurHash3: https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp."""
_HALF: Final = 32


def repeated_keys(read: Read) -> NDArray[np.int64]:
    """Places of all keys that another row has, too, in rising order; missing ones repeat nothing.

    Keys that only ever rise repeat nothing. Of others, 8 bytes each are kept: a hash, and where two agree the keys
    themselves decide.

    :param read: All keys in their order, piece by piece, as often as it is called.
    """
    import numpy as np

    if _rise(read()):
        return np.zeros(0, dtype="int64")
    suspects = _suspects(read())
    return _confirmed(suspects, read()) if len(suspects) else suspects


def _rise(pieces: Iterable[pa.ChunkedArray]) -> bool:
    """Whether each key is greater than the one before it; a missing one is not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    last = None
    try:
        for piece in pieces:
            keys = piece.combine_chunks() if isinstance(piece, pa.ChunkedArray) else piece
            joined = last is None or pc.less(last, keys[0]).as_py()
            if not (joined and pc.all(pc.less(keys[:-1], keys[1:]), skip_nulls=False).as_py()):
                return False
            last = keys[-1]
    except pa.ArrowNotImplementedError:
        # Of such a type nothing is greater than another.
        return False
    return last is None or last.is_valid


def _suspects(pieces: Iterable[pa.ChunkedArray]) -> NDArray[np.int64]:
    """Places of the keys whose hash another one has."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    hashes, known = [], []
    for piece in ahead(iter(pieces)):
        known.append(~pc.is_null(piece, nan_is_null=True).to_numpy())
        hashes.append(_hashed_texts(piece) if pa.types.is_string(piece.type) else _hashed(_comparable(piece)))
    held, is_known = np.concatenate(hashes), np.concatenate(known)
    ordered = np.sort(held[is_known])
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return np.flatnonzero(np.isin(held, twice) & is_known) if len(twice) else np.zeros(0, dtype="int64")


def _confirmed(suspects: NDArray[np.int64], pieces: Iterable[pa.ChunkedArray]) -> NDArray[np.int64]:
    import numpy as np
    import pandas as pd

    found, place = [], 0
    for piece in pieces:
        low, high = np.searchsorted(suspects, [place, place + len(piece)])
        found.append(_comparable(piece).iloc[suspects[low:high] - place])
        place += len(piece)
    confirmed: NDArray[np.int64] = suspects[pd.concat(found).duplicated(keep=False).to_numpy()]
    return confirmed


def _comparable(piece: pa.ChunkedArray) -> pd.Series[Any]:
    """Whole numbers stay whole beside missing ones, and so stay what they are."""
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_integer(piece.type):
        kind = pd.UInt64Dtype() if pa.types.is_unsigned_integer(piece.type) else pd.Int64Dtype()
        numbers: pd.Series[Any] = piece.cast(str(kind).lower()).to_pandas(types_mapper=lambda _: kind)
        return numbers
    values: pd.Series[Any] = piece.to_pandas()
    return values.astype(values.cat.categories.dtype) if isinstance(values.dtype, pd.CategoricalDtype) else values


def _hashed(values: pd.Series[Any]) -> NDArray[np.uint64]:
    import pandas as pd

    if pd.api.types.is_float_dtype(values.dtype):
        values = values + 0.0  # zero is one number, whatever its sign
    held = values.array if pd.api.types.is_extension_array_dtype(values.dtype) else values.to_numpy()
    return pd.util.hash_array(held, categorize=False)


def _hashed_texts(piece: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Eight bytes of every text at a time, mixed as at the end of MurmurHash3: an even spread is all that is needed."""
    import numpy as np
    import pyarrow as pa

    texts = piece.combine_chunks().cast(pa.large_string())
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, dtype="int64")[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer((data.to_pybytes() if data is not None else b"") + bytes(_WORD), dtype="uint8")
    words = np.ndarray(len(held) - _WORD + 1, dtype="<u8", buffer=held, strides=(1,))
    starts, lengths = bounds[:-1], np.diff(bounds)
    masks = np.array([(1 << 8 * count) - 1 for count in range(_WORD + 1)], dtype="uint64")
    hashes = lengths.astype("uint64") * np.uint64(_MIX)
    for done in range(0, int(lengths.max(initial=0)), _WORD):
        some = np.flatnonzero(lengths > done)
        kept = masks[np.minimum(lengths[some] - done, _WORD)]
        mixed = (hashes[some] ^ (words[starts[some] + done] & kept)) * np.uint64(_MIX)
        hashes[some] = mixed ^ (mixed >> np.uint64(_HALF))
    found: NDArray[np.uint64] = hashes
    return found
