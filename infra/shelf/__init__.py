"""The shelf and wire form of a model: what the store keeps and a link carries; it gives the model back bit for bit.

    3 bytes  magic number
    1 byte   form: how the body is made
    varint   size of the model
    8 bytes  the first of the SHA-256 of the model
    the rest is the body

The size stands in front, so a bomb is refused before anything is allocated; the digest is of the model, so neither
damage nor a decoder's mistake passes. `docs/models/shelf.md` says how a body is made, and ADR 10 why.
"""

from __future__ import annotations

import hashlib
import importlib.util
import struct
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import zstandard

from data_catalog.errors import CorruptObject, ModelRefused
from infra import flatbuffer
from infra.shelf import _coder, _numbers, _skeleton
from infra.shelf._coder import Decoder, Encoder

if TYPE_CHECKING:
    from infra.shelf._numbers import Coder, Numbers

MAGIC = b"ceM"
# Forms: any bytes; a flatbuffer's skeleton and weights; each also against an earlier model.
WHOLE, WEIGHTS, WHOLE_DELTA, WEIGHTS_DELTA = range(4)
CHECK = 8  # bytes of the digest
LEAST = 24  # bytes of an array that is taken out of the skeleton
LARGEST = 1 << 32  # bytes of a model
DICTIONARY = "skeletons-d1ec4c71.zst"  # versioned by its digest: a new one is a new form


def pack(model: bytes) -> bytes:
    """The object of a model's bytes, whatever they are."""
    return _smallest(model, (WHOLE, WEIGHTS), b"")


def unpack(packed: bytes, size: int, key: str) -> bytes:
    """The model of `pack`.

    Args:
        packed: the object's bytes.
        size: bytes that the model must have.
        key: the object's name, for the error.

    Raises:
        CorruptObject: it is no such object; names it and the remedy.
    """
    try:
        return _open(packed, size, (WHOLE, WEIGHTS), b"")
    except ValueError as error:
        raise CorruptObject(f"{key} is corrupt ({error}); delete that object and publish the model again") from error


def delta(old: bytes, new: bytes) -> bytes:
    """What makes `new` of `old`: for a site that has the old one, where it is smaller than `pack(new)`."""
    return _smallest(new, (WHOLE_DELTA, WEIGHTS_DELTA), old)


def apply(old: bytes, delta: bytes, size: int, key: str) -> bytes:
    """The model that `delta` was made for.

    Args:
        old: the model that the site has.
        delta: what `delta` gave for it.
        size: bytes that the new model must have.
        key: the delta's name, for the error.

    Raises:
        CorruptObject: it is no such object, or not for that old model; names it and the remedy.
    """
    try:
        return _open(delta, size, (WHOLE_DELTA, WEIGHTS_DELTA), old)
    except ValueError as error:
        raise CorruptObject(f"{key} is corrupt or not for this model ({error}); fetch the whole model") from error


def ratios(model: bytes) -> dict[str, int]:
    """Bytes of a model as it is, as byte coders make it, and packed; Brotli where imagecodecs is installed."""
    sizes = {"raw": len(model), "zstd-19": len(_coder.zstd(model)), "lzma": len(_coder.to_lzma(model))}
    if importlib.util.find_spec("imagecodecs"):
        from infra.codecs import brotli_11

        sizes["brotli-11"] = len(brotli_11.compress(model))
    return {**sizes, "packed": len(pack(model))}


def _smallest(model: bytes, forms: tuple[int, ...], old: bytes) -> bytes:
    """The smallest form that gives the model back: each is tried in both directions."""
    sealed = []
    for form in forms:
        coder = Encoder()
        try:
            _body(coder, form, model, old)
            one = _head(form, len(model)) + hashlib.sha256(model).digest()[:CHECK] + coder.finish()
            if form == forms[0] or _open(one, len(model), forms, old) == model:
                sealed.append(one)
        except ValueError:  # no flatbuffer, or one whose skeleton reads otherwise without its weights
            continue
    return min(sealed, key=len)


def _open(packed: bytes, size: int, forms: tuple[int, ...], old: bytes) -> bytes:
    if packed[: len(MAGIC)] != MAGIC or len(packed) < len(MAGIC) + 1:
        raise ValueError("no packed model")
    form = packed[len(MAGIC)]
    head = _head(form, size)
    if packed[: len(head)] != head or size > LARGEST:
        raise ValueError(f"its frame does not declare the {size} bytes that were promised")
    if form not in forms:
        raise ValueError(f"its form {form} is unknown here; perhaps a newer version made it")
    check, decoder = packed[len(head) :][:CHECK], Decoder(packed[len(head) + CHECK :])
    model = _body(decoder, form, bytes(size), old)
    decoder.finish()
    if hashlib.sha256(model).digest()[:CHECK] != check:
        raise ValueError("its content has another digest than its frame")
    return model


def _head(form: int, size: int) -> bytes:
    out = bytearray()
    while size > 127:  # a varint: seven bits a byte, the low ones first
        out.append(size & 127 | 128)
        size >>= 7
    return MAGIC + bytes([form, *out, size])


def _body(coder: Coder, form: int, model: bytes, old: bytes) -> bytes:
    """The model through the coder; its size alone is looked at where it is read."""
    if form in {WHOLE, WHOLE_DELTA}:
        return coder.blob(model, len(model), old)
    before = _apart(old) if form == WEIGHTS_DELTA else _Parts(dictionary(), [], [], [])
    parts = _apart(model) if isinstance(coder, Encoder) else _Parts(b"", [], [], [])
    size = coder.number(len(parts.skeleton))
    if size > len(model):
        raise ValueError("its skeleton is larger than the whole")
    skeleton = coder.blob(parts.skeleton, size, before.skeleton)
    count = coder.number(len(parts.gaps))
    gaps = coder.numbers(parts.gaps, count)
    widths = [1 + 3 * wide for wide in coder.symbols([width > 1 for width in parts.widths], count, 1)]
    whole = _skeleton.join(skeleton, gaps, widths, len(model))
    for i, place in enumerate(_places(bytes(whole))):
        a = parts.arrays[i] if parts.arrays else np.zeros(place.count, f"<u{place.width}")
        rows = place.count // place.row if place.count % place.row == 0 else 1
        old_one = before.arrays[i] if i < len(before.arrays) and before.arrays[i].shape == a.shape else None
        whole[place.start : place.end] = _array(coder, a, rows, old_one).tobytes()
    return bytes(whole)


def _array(coder: Coder, a: Numbers, rows: int, old: Numbers | None) -> Numbers:
    """An array, or its difference from the old one."""
    if old is None or old.dtype != a.dtype:
        return _numbers.array(coder, a, rows)
    differ = _numbers.difference(a, old)
    fresh = isinstance(coder, Encoder) and _numbers.cost(coder, a, rows) < _numbers.cost(coder, differ, rows)
    if coder.choice(int(fresh), 1):
        return _numbers.array(coder, a, rows)
    return _numbers.undo(_numbers.array(coder, differ, rows), old)


class _Parts(NamedTuple):
    """A flatbuffer taken apart: what is left without its arrays, and how they lay in it."""

    skeleton: bytes
    gaps: list[int]  # bytes before each array
    widths: list[int]  # bytes of what the word before an array counts
    arrays: list[Numbers]


def _apart(model: bytes) -> _Parts:
    """The parts of a model; ValueError if it is no flatbuffer, or an unusual one."""
    gaps, widths, arrays, at = [], [], [], 0
    places = _places(model)
    for place in places:
        size, (counted,) = place.end - place.start, struct.unpack_from("<I", model, place.start - 4)
        if counted * 4 != size != counted:
            raise ValueError("an array has another length than its vector")
        gaps.append(place.start - at)
        widths.append(size // counted)
        arrays.append(np.frombuffer(model, f"<u{place.width}", place.count, place.start))
        at = place.end
    return _Parts(_skeleton.cut(model, [(place.start, place.end) for place in places]), gaps, widths, arrays)


def _places(model: bytes) -> list[flatbuffer.Weights]:
    """The arrays that are taken out, each with at least its length between it and the one before."""
    try:
        found = [place for place in flatbuffer.weights(model) if place.end - place.start >= LEAST]
    except ModelRefused as error:
        raise ValueError(str(error)) from error
    if any(place.start < end + 4 for place, end in zip(found, [0, *(place.end for place in found)], strict=False)):
        raise ValueError("its arrays lie one over another")
    return found


def skeleton(model: bytes) -> bytes:
    """What is left of a `.tflite` without its arrays, for a dictionary; ValueError if it is none."""
    return _apart(model).skeleton


@cache
def dictionary() -> bytes:
    """Skeletons of models of the usual kinds, for others to be like; made by `benchmarks/shelf_dictionary.py`."""
    packed = (resources.files(__name__) / DICTIONARY).read_bytes()
    if hashlib.sha256(packed).hexdigest()[:8] not in DICTIONARY:
        raise ValueError(f"{DICTIONARY} of this installation is damaged; install cloudedge again")
    return zstandard.ZstdDecompressor().decompress(packed)
