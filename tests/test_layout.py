"""What holds for the repository as a whole."""

import operator
import re
import subprocess
import sys
from pathlib import Path

import pytest

import generate
from vercel_certificate_operator import __version__

ROOT = Path(__file__).parents[1]


def tracked() -> list[Path]:
    """The files that git knows, or (where there is no git, as in a source archive) all but what is made here."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]


def test_the_folder_operator_never_becomes_a_package() -> None:
    """It would shadow Python's own module ``operator``."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert Path(operator.__file__).is_relative_to(Path(sys.base_prefix))


def test_the_version_is_in_one_place() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "vercel_certificate_operator", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split()[-1] == __version__
    assert f'"{__version__}"' not in (ROOT / "pyproject.toml").read_text()


def test_a_generated_file_that_is_missing_or_changed_is_reported_until_it_is_written(tmp_path: Path) -> None:
    everything = list(generate.GENERATED)
    assert generate.outdated(tmp_path) == everything
    assert generate.write(tmp_path) == everything
    assert generate.outdated(tmp_path) == []
    with (tmp_path / everything[0]).open("a") as file:
        file.write("more")
    assert generate.outdated(tmp_path) == generate.write(tmp_path) == everything[:1]
    assert generate.outdated(tmp_path) == []


@pytest.mark.parametrize("lock", ["requirements/build.txt", "requirements/runtime.txt", "requirements/dev.txt"])
def test_the_locks_have_hashes_and_no_urls(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    pinned = re.findall(r"^[a-z0-9][^\s;]*==[^\s;]+.*$", text, re.MULTILINE)
    assert pinned
    assert all(line.endswith("\\") for line in pinned), "a requirement without a hash"


def test_no_file_names_a_path_of_the_machine_it_was_made_on() -> None:
    pattern = re.compile(r"(?<![\w~.])/(root|work|home/[a-z]+|Users/[a-zA-Z]+)/")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked()
        if path != Path(__file__)
        for match in pattern.finditer(path.read_bytes().decode(errors="ignore"))
    ]
    assert found == []
