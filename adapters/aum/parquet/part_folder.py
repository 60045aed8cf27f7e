"""The folder of a run's parts, as one rank writes to it: which of them are its own, and what becomes of the others.

A rank's parts are those that it has written or was loaded with, in this order. Whatever else lies in the folder when
it first writes is of another run, or was written after the checkpoint it was loaded from, and is set aside.
"""

from __future__ import annotations

import secrets
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aum.parquet.parts import part_name, part_paths, rank_of, read_part, size_and_mark, write_part
from aum_core.files.whole import rename

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import pyarrow as pa

    from aum_core.records import Columns

__all__ = ["Part", "PartFolder"]


class Part(NamedTuple):
    """A part that was written: its name in the folder, how many records it has, and the mark that no other has."""

    name: str
    size: int
    mark: str


class PartFolder:
    """The parts of one rank in a folder that ranks share.

    Attributes
    ----------
    parts : list of Part
        The rank's own, in the order they were written.

    Parameters
    ----------
    save_dir : str or path
        Of the run: parts go to its ``records/``, and what is not of the run to its ``records_set_aside/``.
    rank, num_ranks : int
    """

    def __init__(self, save_dir: str | os.PathLike[str], rank: int, num_ranks: int) -> None:
        self.parts: list[Part] = []
        self._save_dir, self._folder = Path(save_dir), Path(save_dir) / "records"
        self._rank, self._num_ranks = rank, num_ranks
        self._is_claimed = False
        self._read: tuple[Part, Columns] | None = None  # what was last read

    @property
    def paths(self) -> list[Path]:
        """Where the parts are, in the order they were written."""
        return [self._folder / part.name for part in self.parts]

    def claim(self) -> None:
        """See that the folder has these parts and no others of the rank."""
        if self._is_claimed:
            self._check_last()
            return
        old, place = self._set_aside()
        self._is_claimed = True
        if old:
            warnings.warn(
                f"{self._folder}: {len(old)} parts of an earlier run were there, and are in {place} now; to go on with "
                "a run: AUMCalculator.load",
                UserWarning,
                stacklevel=4,
            )

    def write(self, ids: dict[str, pa.Array], columns: Columns) -> None:
        """Write the next part of a claimed folder, synced to the disk when this returns: see `write_part`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = part_name(self._rank, len(self.parts))
        if (self._folder / name).exists():
            raise FileExistsError(
                f"{self._folder / name}: another process writes there as rank {self._rank} too; want the process group "
                "before the calculator, or a save_dir for each"
            )
        mark = secrets.token_hex(8)
        write_part(self._folder / name, ids, columns, mark)
        self.parts.append(Part(name, len(columns["aum"]), mark))

    def read(self, part: Part) -> Columns:
        """Columns of a part in the order in which its records were made."""
        if self._read is None or self._read[0] != part:
            self._read = part, read_part(self._folder / part.name)
        return self._read[1]

    def restore(self, parts: Sequence[Part]) -> None:
        """Have these parts, and set aside what was written after them.

        Raises
        ------
        ValueError
            Where they are not the first of this rank, or not in the folder as they were written; nothing has changed.
        """
        if [part.name for part in parts] != [part_name(self._rank, number) for number in range(len(parts))]:
            names = [part.name for part in parts]
            raise ValueError(f"its record parts are {names}, want those of rank {self._rank} from 0 on")
        if parts and not self._folder.is_dir():
            raise ValueError(
                f"{self._folder} is not there, and has its records: want the save_dir that these are in now"
            )
        for part in parts:
            self._check(part)
        self.parts, self._read = list(parts), None
        self._set_aside()
        self._is_claimed = True

    def _check_last(self) -> None:
        """See that no other run has set these parts aside: it may have written its own under their names."""
        if not self.parts:
            return
        try:
            self._check(self.parts[-1])
        except ValueError as error:
            raise FileNotFoundError(f"{error}: want a save_dir that no other run writes to") from None

    def _check(self, part: Part) -> None:
        path, size = self._folder / part.name, part.size
        try:
            found = size_and_mark(path)
        except FileNotFoundError:
            raise ValueError(f"{path} is not there, and it has {size} of its records") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read, and it has {size} of its records ({error})") from error
        if found != (size, part.mark):
            raise ValueError(f"{path} is another part than the one that has {size} of its records")

    def _set_aside(self) -> tuple[list[Path], Path | None]:
        """Move what is not of these parts out of the folder, which others read as a whole."""
        own = set(self.paths)
        old = [path for path in part_paths(self._folder) if self._is_mine(path) and path not in own]
        for path in self._folder.glob(f".rank{self._rank}-part*.tmp") if self._folder.is_dir() else ():
            with suppress(OSError):  # half of a part, of a process that was killed: nothing depends on it
                path.unlink()
        if not old:
            return old, None
        place = _new_folder(self._save_dir / "records_set_aside")
        for path in reversed(old):  # of what is not moved yet no part is missing in between
            rename(path, place / path.name)
        return old, place

    def _is_mine(self, path: Path) -> bool:
        """Whether nobody but this process looks after a part. The first one does for ranks that are no longer there."""
        rank = rank_of(path)
        return rank == self._rank or (self._rank == 0 and rank >= self._num_ranks)


def _new_folder(parent: Path) -> Path:
    """A folder with the next number that is free."""
    number = 0
    while True:
        place = parent / str(number)
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return place
