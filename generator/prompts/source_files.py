"""Source files, and what stands in them before a theorem, the file context of prompts."""

from __future__ import annotations

from pathlib import Path

from common import ConfigError, DataError, FilePath, Pos

_BYTES_PER_TOKEN = 8  # no text of a prover has longer tokens on average


class SourceFiles:
    """A folder that the file paths of data and of requests are relative to, such as a checkout of Mathlib."""

    def __init__(self, sources_path: str | Path) -> None:
        """Choose the folder.

        Raises:
            ConfigError: if there is no such folder
        """
        self.folder = Path(sources_path)
        if not self.folder.is_dir():
            raise ConfigError(
                f"sources_path {self.folder}: there is no such folder; give the one in which file paths begin, such "
                "as a checkout of the repository"
            )

    def before(self, file_path: FilePath, position: Pos, max_tokens: int) -> str:
        """Return the text before a position; of a long one the end, as much as a prompt of max_tokens may hold.

        Args:
            file_path: of the file, relative to the folder
            position: of a theorem; lines and columns count from 1, columns in characters
            max_tokens: tokens that a prompt may take

        Raises:
            DataError: if there is no such file in the folder, or it ends before the position
        """
        text = self._read(file_path)
        start = 0
        for _ in range(position.line_nb - 1):
            start = text.find(b"\n", start) + 1
            if not start:
                raise DataError(f"{self.folder / file_path}: ends before {position}; is it of another commit?")
        line = text[start : text.find(b"\n", start) + 1 or None].decode(errors="replace")
        context = text[max(0, start - _BYTES_PER_TOKEN * max_tokens) : start].decode(errors="ignore")
        return context + line[: position.column_nb - 1]

    def _read(self, file_path: FilePath) -> bytes:
        if str(file_path) in ("", "."):
            raise DataError(f"prompts tell of a file in sources_path {self.folder}, but file_path is empty; name one")
        path = self.folder / file_path
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise DataError(f"{file_path}: leads out of sources_path {self.folder}")
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(
                f"cannot read {path}: {error.strerror}; set sources_path to the folder in which {file_path} is"
            ) from error
