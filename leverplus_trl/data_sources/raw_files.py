# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The official files of a dataset: where they are on this disk, and whether they are whole."""

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from ..tables import file_digest


logger = logging.getLogger(__name__)

#: How deep below the root files are looked for; image folders hold tens of thousands of them.
LEVELS = ("", "*/", "*/*/")

Record = TypeVar("Record")


class RawFiles:
    """
    Finds files by their official names, however they were unpacked.

    Args:
        root (`str` or `Path`):
            Folder with the questions, annotations, ..., itself or up to two levels below it.
        image_root (`str` or `Path`, *optional*, defaults to `root`):
            Folder with the folders of images, if they are elsewhere.
        allow_other_counts (`bool`, *optional*, defaults to `False`):
            Whether files may hold another number of records than the official ones; logged then, refused otherwise.

    Raises:
        `ValueError`: no such folder.
    """

    def __init__(self, root: str | Path, image_root: str | Path | None = None, allow_other_counts: bool = False):
        self.root = _folder("root", root)
        self.image_root = self.root if image_root is None else _folder("image_root", image_root)
        self.allow_other_counts = allow_other_counts
        #: `{name: digest}` of every file that was asked for.
        self.digests: dict[str, str] = {}
        #: The record that is being read, with what to call it; see [`RawFiles.each`].
        self.at: tuple[str, object] | None = None

    def find(self, *names: str) -> Path:
        """
        The file of that name, or of the first of several names that is there.

        Raises:
            `ValueError`: there is none, or there are two of one name.
        """
        for name in names:
            found = _search(self.root, name, "root", is_file=True)
            if found is not None:
                self.digests[name] = file_digest(found)
                return found
        raise ValueError(
            f"There is no {' or '.join(names)} in {str(self.root)!r} or up to two levels below it. Point `root` at "
            "the folder where the official files were unpacked, or name in `splits` only those whose files you have."
        )

    def image_folder(self, *names: str) -> Path:
        """
        The folder of that name, or of the first of several names that is there.

        Raises:
            `ValueError`: there is none, or there are two of one name.
        """
        for name in names:
            found = _search(self.image_root, name, "image_root", is_file=False)
            if found is not None:
                return found
        raise ValueError(
            f"There is no folder {' or '.join(names)} with images in {str(self.image_root)!r} or up to two levels "
            "below it. Point `image_root` at the folder that holds it."
        )

    def read_text(self, file: Path) -> str:
        """
        What a file says, without the byte order mark that some programs put before it.

        Raises:
            `ValueError`: it is no text.
        """
        try:
            return file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{str(file)!r} is not text in UTF-8: {error}. Fetch it again.") from error

    def read_json(self, file: Path) -> Any:
        """
        What a JSON file says.

        Raises:
            `ValueError`: it is no text, not JSON, or not all of it is there.
        """
        text = self.read_text(file)
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(
                f"{str(file)!r} ({file.stat().st_size:,} bytes) is not whole JSON: {error}. It looks truncated: fetch "
                "it again."
            ) from error

    def records(self, file: Path, key: str) -> list[dict[str, Any]]:
        """
        The list that a JSON file holds under a key.

        Raises:
            `ValueError`: it holds no such list.
        """
        content = self.read_json(file)
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{str(file)!r} holds no list {key!r}: it is not the official file of that name.")
        return content[key]

    def each(self, file: Path, records: Iterable[Record]) -> Iterator[Record]:
        """The records of a file one by one; what is raised meanwhile is put down to the one in `at`."""
        for position, record in enumerate(records):
            self.at = (f"Record {position} (counted from 0) of {str(file)!r}", record)
            yield record
        self.at = None

    def by_id(self, file: Path, records: Iterable[dict[str, Any]], key: str) -> Iterator[tuple[Any, dict[str, Any]]]:
        """
        Like [`RawFiles.each`], with the ids that the records have under a key.

        Raises:
            `ValueError`: an id stands twice.
        """
        known = set()
        for record in self.each(file, records):
            if record[key] in known:
                raise ValueError(f"the id {record[key]!r} stands twice: two versions of the dataset may be mixed")
            known.add(record[key])
            yield record[key], record

    def check_count(self, file: Path, found: int, official: int, what: str) -> None:
        """
        Compares the number of records of a file with the official one.

        Raises:
            `ValueError`: they differ.
        """
        if found == official:
            return
        guess = "it looks truncated: fetch it again" if found < official else "it is of another version"
        message = f"{str(file)!r} holds {found:,} {what}; the official file holds {official:,}"
        if not self.allow_other_counts:
            raise ValueError(f"{message}, so {guess}, or set `allow_other_counts` to take it as it is.")
        logger.warning("%s. Taken as it is.", message)


def _folder(name: str, path: str | Path) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{name} is {str(path)!r}, which is not a folder.")
    return folder.absolute()  # links stay links, which can be pointed elsewhere


def _search(root: Path, name: str, argument: str, is_file: bool) -> Path | None:
    for level in LEVELS:
        found = sorted(path for path in root.glob(level + name) if (path.is_file() if is_file else path.is_dir()))
        if len(found) > 1:
            raise ValueError(
                f"{name!r} stands in several places: {', '.join(str(path) for path in found[:3])}. Point `{argument}` "
                "at the one that is meant."
            )
        if found:
            return found[0]
    return None
