"""The state file: certificates and the clock's offset, kept over restarts."""

from pathlib import Path

from pydantic import ValidationError

from vercel_emulator.errors import StateFileError
from vercel_emulator.models import Snapshot


def read(path: Path) -> Snapshot | None:
    """Read a state file.

    Returns:
        Its content, or None if there is no such file.

    Raises:
        StateFileError: The file can't be read, or is not a state file.
    """
    if not path.exists():
        return None
    try:
        return Snapshot.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StateFileError(f"can't read the state file {path}: {error.strerror}") from error
    except ValidationError as error:
        raise StateFileError(
            f"{path} is not a state file of this emulator: choose another path, or move the file away"
        ) from error


def write(path: Path, text: str) -> None:
    """Replace a state file in one step, so that a crash or a reader never sees half of it.

    Args:
        path: The file.
        text: A ``Snapshot`` in JSON.

    Raises:
        StateFileError: The file can't be written.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        raise StateFileError(
            f"can't write the state file {path}: {error.strerror}; choose a path that is writable"
        ) from error
