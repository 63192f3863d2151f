"""Decoding a text file, packed or not and in UTF-8 or UTF-16, to UTF-8 in memory."""

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from recsys.core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """The text of a file in UTF-8 without a byte order mark, and how it was packed and encoded."""

    data: bytes
    notes: tuple[str, ...] = ()


def read_text(path: Path) -> TextSource:
    """Read a text file whole.

    Raises:
        DataError: the file cannot be read or unpacked, or is in another encoding; names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} must be a readable file, got {error}; check the path") from error
    notes: list[str] = []
    for magic, name, unpack in _PACKED:
        if data.startswith(magic):
            data = _unpacked(path, data, unpack)
            notes.append(f"unpacked from {name}")
            break
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return TextSource(
                data=_decoded(path, data, encoding).encode("utf-8"), notes=(*notes, f"read as {encoding}")
            )
    data = data.removeprefix(codecs.BOM_UTF8)
    _decoded(path, data, "utf-8")
    return TextSource(data=data, notes=tuple(notes))


def _unpacked(path: Path, data: bytes, unpack: Callable[[bytes], bytes]) -> bytes:
    try:
        return unpack(data)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
        raise DataError(f"{path} must be a whole packed file, got {error}; download or pack it again") from error


def _decoded(path: Path, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        column = wrong.start - data.rfind(b"\n", 0, wrong.start)
        raise DataError(
            f"{path}, line {line}, column {column}: must be UTF-8, got {wrong.reason}; save the file as UTF-8"
        ) from wrong


def _unzip(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as files:
        members = [name for name in files.namelist() if not name.endswith("/")]
        if len(members) != 1:
            raise ValueError(f"an archive of {len(members)} files instead of one")
        return files.read(members[0])


def _unzstd(data: bytes) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        content: bytes = stream.read()
    return content


_PACKED: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", "gzip", gzip.decompress),
    (b"BZh", "bzip2", bz2.decompress),
    (b"\xfd7zXZ\x00", "xz", lzma.decompress),
    (b"\x28\xb5\x2f\xfd", "zstd", _unzstd),
    (b"PK\x03\x04", "zip", _unzip),
)
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
