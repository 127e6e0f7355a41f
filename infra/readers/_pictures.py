"""One picture from its bytes: PNG, JPEG and TIFF by Pillow, DICOM by pydicom.

Sizes are compared with the schema before anything is decoded, so a picture that claims to be huge costs
nothing. PNG's checksums are verified; JPEG and TIFF have none.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from data_catalog.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_catalog.nouns import Schema

FORMATS = ("PNG", "JPEG", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")
OVERHEAD = 4 << 20  # bytes that a file may have beside its pixels: profiles, thumbnails, notes
# What an array of each of Pillow's modes looks like; others (palettes, CMYK) become RGB.
CHANNELS = {"1": 1, "L": 1, "I;16": 1, "I;16B": 1, "I;16L": 1, "I": 1, "F": 1, "LA": 2, "RGB": 3, "RGBA": 4}
DEFLATED = "1.2.840.10008.1.2.1.99"  # DICOM transfer syntax: pydicom would inflate it without a limit

# Pillow warns of a decompression bomb, and only raises at twice the size: here both are errors.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


class NoPicture(ValueError):
    """Bytes that are no picture which fits the schema; the message says why."""


def longest(record: Schema) -> int:
    """How many bytes a picture's file may have."""
    return OVERHEAD + 4 * record.values * np.dtype(record.dtype).itemsize


def decode(data: bytes, record: Schema) -> NDArray[np.generic]:
    """The picture as (height, width) or (height, width, channels), stored values.

    Args:
        data: the file's bytes.
        record: its shape is what the picture must have; a channel axis of 1 may be there or not.

    Raises:
        NoPicture: it cannot be decoded, or has another size.
        BadInput: it is DICOM and pydicom is not installed.
    """
    if len(data) > longest(record):
        raise NoPicture(f"more than the {longest(record)} bytes that are taken for such a picture")
    try:
        return _dicom(data, record) if data[128:132] == b"DICM" else _pillow(data, record)
    except (NoPicture, BadInput):
        raise
    except Exception as error:  # decoders raise anything at all when fed damaged bytes
        raise NoPicture(f"cannot be decoded ({' '.join(str(error).split())[:120] or type(error).__name__})") from error


def _require(shape: tuple[int, ...], record: Schema) -> None:
    """Raise unless a picture of this height, width and channels is what the schema says."""
    if shape != record.shape and (shape[2:] not in {(), (1,)} or shape[:2] != record.shape):
        if shape[2:] == () and (*shape, 1) == record.shape:
            return
        raise NoPicture(f"a picture of shape {shape} where the schema says {record.shape}")


def _pillow(data: bytes, record: Schema) -> NDArray[np.generic]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        mode = image.mode if image.mode in CHANNELS else "RGB"
        _require((image.height, image.width, CHANNELS[mode]), record)
        if getattr(image, "n_frames", 1) != 1:
            raise NoPicture("several pictures in one file")
        if image.format == "PNG":
            image.verify()
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:  # `verify` spends it
        image.load()
        picture = image if image.mode == mode else image.convert(mode)
        return np.asarray(picture.convert("L") if mode == "1" else picture)


def _dicom(data: bytes, record: Schema) -> NDArray[np.generic]:
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise BadInput("DICOM needs the package 'pydicom'; pip install 'cloudedge[dicom]'") from error
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    with warnings.catch_warnings(action="ignore"):
        meta: Any = pydicom.filereader.read_partial(io.BytesIO(data), stop_when=lambda *_: True).file_meta
        if meta.get("TransferSyntaxUID", "") == DEFLATED:
            raise NoPicture("deflated DICOM is not taken; store it with an explicit transfer syntax")
        found: Any = pydicom.dcmread(io.BytesIO(data))
        channels = int(found.get("SamplesPerPixel", 1))
        if int(found.get("NumberOfFrames", 1) or 1) != 1:
            raise NoPicture("several frames in one file")
        _require((int(found.Rows), int(found.Columns), *([channels] if channels > 1 else [])), record)
        return np.asarray(found.pixel_array)
