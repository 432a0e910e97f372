# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Images of examples. They stay undecoded until a model needs them.

Decoding rotates an image by its EXIF orientation; uses the first of several frames, or the current frame of a
`PIL.Image.Image`; composes transparent pixels on white; scales 16-bit grey to 8 bits (Pillow would clip it); and
converts all other modes to RGB by Pillow, without colour profiles.
"""

import functools
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Image
from PIL import ImageOps
from PIL.ExifTags import Base


#: Maximum ratio of the sides; image processors of Qwen-VL refuse a larger ratio.
MAX_ASPECT_RATIO = 200
#: The decoding steps, for the provenance of tables that depend on them.
DECODING = "upright, first frame, on white, 8 bits, RGB"
#: A decoded image, or `{"bytes", "path"}` as `datasets` stores an image.
Source = PIL.Image.Image | dict[str, Any]


class LazyImages(Sequence[PIL.Image.Image]):
    """Images that are decoded on each access and not kept in memory. The ids of their examples are for messages."""

    def __init__(self, sources: Sequence[Source] = (), example_ids: Sequence[str] = ()):
        self._sources = tuple(zip(sources, example_ids, strict=True))

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, index: int) -> PIL.Image.Image:
        source, example_id = self._sources[index]
        try:
            return decode_image(source)
        except ValueError as error:
            raise ValueError(f"The image of example {example_id!r} {error}") from error

    @property
    def keys(self) -> tuple[str, ...]:
        """The [`image_key`] of each image."""
        return tuple(image_key(source) for source, _ in self._sources)


def undecoded(examples: Dataset) -> Dataset:
    """The same examples with undecoded images: `{"bytes", "path"}`."""
    return examples.cast_column("image", Image(decode=False))


def image_batches(examples: Dataset) -> Iterator[pa.ChunkedArray]:
    """The undecoded images, `{"bytes", "path"}`, in batches of 1,000 examples that are not copied."""
    for batch in undecoded(examples.select_columns("image")).with_format("arrow").iter(batch_size=1000):
        yield batch["image"]


def have_images(examples: Dataset) -> bool:
    """Whether every example has an image."""
    return not any(images.null_count for images in image_batches(examples))


def file_states(examples: Dataset) -> str:
    """A hash of the size and modification time of every image file of a table, for the cache keys of `datasets`."""
    hasher = hashlib.sha256()
    for images in image_batches(examples):
        has_no_bytes = pc.is_null(pc.struct_field(images, "bytes"))
        for path in pc.struct_field(images, "path").filter(has_no_bytes).to_pylist():
            hasher.update(_file_state(path).encode())
    return hasher.hexdigest()


def content_sizes(examples: Dataset) -> list[int | None]:
    """The size in bytes of each stored image or image file, which is not read; `None` without an image or file."""
    sizes = []
    for images in image_batches(examples):
        lengths = pc.binary_length(pc.struct_field(images, "bytes")).to_pylist()
        for length, path in zip(lengths, pc.struct_field(images, "path").to_pylist(), strict=True):
            in_file = length is None and path is not None and os.path.isfile(path)
            sizes.append(os.path.getsize(path) if in_file else length)
    return sizes


def content_hash(image: dict[str, Any] | None) -> str | None:
    """A hash of the bytes of an undecoded image; `None` without an image or file."""
    if image is None or image["bytes"] is not None:
        return image and hashlib.sha256(image["bytes"]).hexdigest()
    return _file_hash(_file_state(image["path"])) if os.path.isfile(image["path"]) else None


@functools.lru_cache(maxsize=100_000)  # many questions may share an image
def _file_hash(state: str) -> str:
    with open(json.loads(state)[0], "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _file_state(path: str | None) -> str:
    stat = os.stat(path) if path and os.path.exists(path) else None
    return json.dumps([path, stat and stat.st_size, stat and stat.st_mtime_ns])


def image_source(value: Any) -> Source:
    """
    Converts a user's image to a [`Source`]: a `PIL.Image.Image`, the path of a file, the bytes of a file, `{"bytes",
    "path"}` as `datasets` stores it, or an array of `uint8` and shape `[H, W]`, `[H, W, 1]`, `[H, W, 3]` (RGB) or
    `[H, W, 4]` (RGBA). Raises `ValueError` for another value; the caller puts the image's name before the message.
    """
    if isinstance(value, PIL.Image.Image):
        return value
    problem = f"is a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
    if isinstance(value, np.ndarray):
        is_grey = value.shape[2:] in ((), (1,))
        if value.dtype == np.uint8 and value.size and value.ndim in (2, 3) and (is_grey or value.shape[2] in (3, 4)):
            return PIL.Image.fromarray(np.ascontiguousarray(value.reshape(value.shape[:2]) if is_grey else value))
        problem = f"is an array of {value.dtype} and shape {list(value.shape)}"
    content, path = value, None
    if isinstance(value, dict):
        problem = f"is a dict with the keys {sorted(map(str, value))}"
        is_stored = value.keys() <= {"bytes", "path"}
        content, path = (value.get("bytes"), value.get("path")) if is_stored else (None, None)
    elif isinstance(value, (str, Path)):
        content, path = None, str(value)
    if isinstance(content, (bytes, bytearray)):
        return {"bytes": bytes(content), "path": path}
    if not isinstance(path, str):
        expected = "a PIL image, the path of a file, its bytes, a dict with `bytes` or `path` as datasets stores it"
        raise ValueError(f"{problem}; expected {expected}, or a uint8 array of shape [H, W], [H, W, 3] or [H, W, 4].")
    short = repr(path if len(path) <= 100 else f"{path[:100]}...")
    if "://" in path or path.startswith("data:"):
        raise ValueError(f"is the URL {short}, and URLs are not fetched; expected a file: fetch it and give its path.")
    if not os.path.isfile(path):
        raise ValueError(f"is {short}, where there is no file; expected the path of an image.")
    return {"bytes": None, "path": path}


def decode_image(image: Source) -> PIL.Image.Image:
    """
    Decodes an image to mode RGB, as the top of this module describes. Raises `ValueError`, as [`image_source`] does,
    if Pillow can't decode it, it has over `PIL.Image.MAX_IMAGE_PIXELS`, or a side is over 200 times the other.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns if the image is up to twice too large.
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            decoded = Image().decode_example(image)
            decoded.load()
            if decoded.getexif().get(Base.Orientation) is not None:
                decoded = ImageOps.exif_transpose(decoded)
            decoded = _to_rgb(decoded)
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        most = f"{PIL.Image.MAX_IMAGE_PIXELS:,}"
        raise ValueError(f"has too many pixels, more than {most} ({error}). Make it smaller.") from error
    except Exception as error:  # Pillow's decoders raise errors of many types
        # Pillow's own message ends in a memory address.
        reason = "Pillow knows no such image" if isinstance(error, PIL.UnidentifiedImageError) else str(error)[:300]
        raise ValueError(f"can't be decoded ({type(error).__name__}: {reason})") from error
    short, long = sorted(decoded.size)
    if long > MAX_ASPECT_RATIO * short:
        size = f"{decoded.width} x {decoded.height} pixels"
        raise ValueError(f"has {size}: one side is more than {MAX_ASPECT_RATIO} times the other. Crop or pad it.")
    return decoded


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    darkest, brightest = image.getextrema() if image.mode == "I" else (0, 0)
    if image.mode == "F" or darkest < 0 or brightest > 65535:
        raise ValueError(f"mode {image.mode!r} does not say which value is white; store it with 8 or 16 bits a pixel")
    if image.mode.startswith("I"):
        shades = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)
        return PIL.Image.fromarray(shades[np.asarray(image)]).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def image_key(image: Source) -> str:
    """A hash of an image: of its bytes, of the path, size and modification time of its file, or of the pixels of a
    `PIL.Image.Image`."""
    if isinstance(image, PIL.Image.Image):
        shown = decode_image(image)
        kind, content = f"pixels {shown.width} {shown.height}", shown.tobytes()
    elif image["bytes"] is not None:
        kind, content = "bytes", image["bytes"]
    else:
        kind, content = "file", _file_state(image["path"]).encode()
    return hashlib.sha256(f"{kind}\n".encode() + content).hexdigest()
