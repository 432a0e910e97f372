# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Images of examples: undecoded until a model looks at them, then RGB pixels, the same from whatever they came as.

What becomes of an image, in this order:
- It is turned as its EXIF orientation says: models see what people see. (`datasets` does that, too.)
- Of several frames the first is taken, unless a `PIL.Image.Image` stands at another one.
- Transparent pixels are laid on white; what colour is stored beneath them is accidental. (`transformers` does that,
  too, if it is given the transparency.)
- 16-bit grey is scaled to 8 bits, where Pillow would make everything above 255 white.
- CMYK and all other modes become RGB as Pillow converts them; colour profiles are not applied.

Refused are images that Pillow can't decode, that have more pixels than `PIL.Image.MAX_IMAGE_PIXELS` (89 million; they
are not decoded at all), and that are more than 200 times as long as wide, which no model can use. Any other size is
left to the model's image processor.
"""

import functools
import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.compute as pc
from datasets import Dataset, Image
from PIL import ImageOps
from PIL.ExifTags import Base


#: Longest side of an image by its shortest one; image processors of Qwen-VL refuse more.
MAX_ASPECT_RATIO = 200

#: What is done to every image, for tables whose numbers depend on it.
DECODING = "upright, first frame, on white, 8 bits, RGB"

#: An image that is decoded already, or `{"bytes", "path"}` as `datasets` stores it.
Source = PIL.Image.Image | dict[str, Any]


class LazyImages(Sequence[PIL.Image.Image]):
    """
    Images that are decoded when they are taken out, each time anew, so that nothing but the files is kept.

    Args:
        sources (`Sequence[PIL.Image.Image or dict]`, *optional*, defaults to `()`):
            Images, or what they are stored as.
        example_ids (`Sequence[str]`, *optional*, defaults to `()`):
            The example that each belongs to, for what is said of those that can't be used.
    """

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
        """[`image_key`] of each, for which none is decoded."""
        return tuple(image_key(source) for source, _ in self._sources)


def undecoded(examples: Dataset) -> Dataset:
    """The same examples, with images as they are stored."""
    return examples.cast_column("image", Image(decode=False))


def have_images(examples: Dataset) -> bool:
    """Whether every example has an image; none is decoded."""
    batches = examples.select_columns(["image"]).with_format("arrow").iter(batch_size=1000)
    return not any(batch["image"].null_count for batch in batches)


def file_states(examples: Dataset) -> str:
    """
    A digest of the size and modification time of every file that the images of a table, undecoded, only refer to.

    Without it the cache of `datasets` would not see that a file was changed.
    """
    hasher = hashlib.sha256()
    for batch in examples.select_columns("image").with_format("arrow").iter(batch_size=1000):
        images = batch["image"].combine_chunks()
        for path in images.filter(pc.is_null(pc.struct_field(images, "bytes"))).field("path").to_pylist():
            hasher.update(_file_state(path).encode())
    return hasher.hexdigest()


def content_sizes(examples: Dataset) -> list[int | None]:
    """The size in bytes of each image as it is stored, in the table or in a file; `None` without an image or file.
    No image is read."""
    sizes = []
    for batch in undecoded(examples.select_columns("image")).with_format("arrow").iter(batch_size=1000):
        images = batch["image"].combine_chunks()
        lengths = pc.binary_length(pc.struct_field(images, "bytes")).to_pylist()
        paths = pc.struct_field(images, "path").to_pylist()
        for length, path in zip(lengths, paths, strict=True):
            in_file = length is None and path is not None and os.path.isfile(path)
            sizes.append(os.path.getsize(path) if in_file else length)
    return sizes


def content_hash(image: dict[str, Any] | None) -> str | None:
    """A hash of the bytes of an image, as it is stored undecoded; `None` without an image or file."""
    if image is None or image["bytes"] is not None:
        return image and hashlib.sha256(image["bytes"]).hexdigest()
    return _file_hash(_file_state(image["path"])) if os.path.isfile(image["path"]) else None


@functools.lru_cache(maxsize=100_000)  # many questions may be about one image
def _file_hash(state: str) -> str:
    with open(json.loads(state)[0], "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _file_state(path: str | None) -> str:
    stat = os.stat(path) if path and os.path.exists(path) else None
    return json.dumps([path, stat and stat.st_size, stat and stat.st_mtime_ns])


def image_source(value: Any) -> Source:
    """
    An image from what a user may have one in.

    Args:
        value (`Any`):
            A `PIL.Image.Image`, the path of a file (`str` or `Path`), the bytes of one, `{"bytes", "path"}` as
            `datasets` stores it, or a `np.ndarray` of `uint8` and shape `[H, W]`, `[H, W, 1]`, `[H, W, 3]` (RGB) or
            `[H, W, 4]` (RGBA).

    Raises:
        `ValueError`: anything else, a URL among them, or a path without a file. The message goes on where the caller
            has named the image.
    """
    if isinstance(value, PIL.Image.Image):
        return value
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value), "path": None}
    if isinstance(value, (str, Path)):
        return {"bytes": None, "path": _existing_file(str(value))}
    if isinstance(value, dict) and value.keys() <= {"bytes", "path"} and isinstance(value.get("bytes"), bytes):
        return {"bytes": value["bytes"], "path": value.get("path")}
    if isinstance(value, dict) and value.keys() <= {"bytes", "path"} and isinstance(value.get("path"), str):
        return {"bytes": None, "path": _existing_file(value["path"])}
    found = f"is a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
    if isinstance(value, np.ndarray):
        grey = value.ndim == 2 or (value.ndim == 3 and value.shape[2] == 1)
        if value.dtype == np.uint8 and value.size and (grey or (value.ndim == 3 and value.shape[2] in (3, 4))):
            return PIL.Image.fromarray(np.ascontiguousarray(value.reshape(value.shape[:2]) if grey else value))
        found = f"is an array of {value.dtype} and shape {list(value.shape)}"
    elif isinstance(value, dict):
        found = f"is a dict with the keys {sorted(map(str, value))}"
    raise ValueError(
        f"{found}; expected a PIL image, the path of a file, its bytes, a dict with `bytes` or `path` as datasets "
        "stores it, or a uint8 array of shape [H, W], [H, W, 3] (RGB) or [H, W, 4]."
    )


def _existing_file(path: str) -> str:
    short = repr(path if len(path) <= 100 else f"{path[:100]}...")
    if "://" in path or path.startswith("data:"):
        raise ValueError(f"is the URL {short}, and nothing is fetched; expected a file: fetch it and give its path.")
    if not os.path.isfile(path):
        raise ValueError(f"is {short}, where there is no file; expected the path of an image.")
    return path


def decode_image(image: Source) -> PIL.Image.Image:
    """
    What a model is shown of an image.

    Args:
        image (`PIL.Image.Image` or `dict`):
            An image, or `{"bytes", "path"}`.

    Returns:
        `PIL.Image.Image`: in mode RGB.

    Raises:
        `ValueError`: an image that can't be used. The message goes on where the caller has named the image.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns of what is up to twice too large.
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            found = Image().decode_example(image)
            found.load()
            if found.getexif().get(Base.Orientation) is not None:
                found = ImageOps.exif_transpose(found)
            found = _to_rgb(found)
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"has too many pixels, more than {PIL.Image.MAX_IMAGE_PIXELS:,} ({error}). Make it smaller."
        ) from error
    except Exception as error:  # Pillow's decoders raise errors of many kinds; all are handed on
        # The message of Pillow ends in an address in memory.
        reason = "Pillow knows no such image" if isinstance(error, PIL.UnidentifiedImageError) else str(error)[:300]
        raise ValueError(f"can't be decoded ({type(error).__name__}: {reason})") from error
    short, long = sorted(found.size)
    if long > MAX_ASPECT_RATIO * short:
        raise ValueError(
            f"has {found.width} x {found.height} pixels: one side is more than {MAX_ASPECT_RATIO} times the other. "
            "Crop it, or pad it."
        )
    return found


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode == "F" or (image.mode == "I" and not _fits_16_bits(image)):
        raise ValueError(f"mode {image.mode!r} does not say which value is white; store it with 8 or 16 bits a pixel")
    if image.mode.startswith("I"):
        shades = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)
        return PIL.Image.fromarray(shades[np.asarray(image)]).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _fits_16_bits(image: PIL.Image.Image) -> bool:
    darkest, brightest = image.getextrema()
    return darkest >= 0 and brightest <= 65535


def image_key(image: Source) -> str:
    """
    A digest of what an image shows: of the file's bytes, of path, size and modification time of a file that is only
    referred to, or of the pixels of a `PIL.Image.Image`. Equal keys mean equal pixels, unless a file was changed
    behind its size and time; the same picture stored otherwise has another key.
    """
    if isinstance(image, PIL.Image.Image):
        shown = decode_image(image)
        kind, content = f"pixels {shown.width} {shown.height}", shown.tobytes()
    elif image["bytes"] is not None:
        kind, content = "bytes", image["bytes"]
    else:
        kind, content = "file", _file_state(image["path"]).encode()
    return hashlib.sha256(f"{kind}\n".encode() + content).hexdigest()
