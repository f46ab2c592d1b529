"""Build the container image with docker, podman or buildah: ``make image`` runs this.

The same commit gives the same image: everything in it is locked except the base, whose tag may move, and all times are
the commit's (with podman and buildah, those of the files too).

It uses only the standard library, so it needs no virtual environment.
"""

import argparse
import os
import re
import runpy
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION: str = runpy.run_path(str(ROOT / "operator/vercel_certificate_operator/_version.py"))["__version__"]
TAG = f"localhost/vercel-certificate-operator:{VERSION}"


class NoEngineError(Exception):
    """No container engine works. The message names those that were tried."""


def engine(*names: str) -> str:
    """Return the first of the programs that works. A docker without its daemon does not.

    Raises:
        NoEngineError: None of them works.
    """
    for name in names:
        command = [name, "info"] if name == "docker" else [name, "--version"]
        if shutil.which(name) and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return name
    raise NoEngineError(f"None of {', '.join(names)} works here: install one (docker needs its daemon, too)")


def build(tag: str, base_image: str | None, flags: list[str]) -> None:
    """Build the image.

    Args:
        tag: The image's name and tag.
        base_image: Replaces the Dockerfile's default.
        flags: Further arguments for the engine's ``build``.

    Raises:
        NoEngineError: No container engine works.
        subprocess.CalledProcessError: The build failed, and has printed why.
    """
    builder = engine("docker", "podman", "buildah")
    seconds = int(
        os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct") or datetime.now(UTC).timestamp()
    )
    arguments = {
        "VERSION": VERSION,
        "REVISION": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
        "CREATED": datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "BASE_IMAGE": base_image or default_base(),
    }
    if builder == "docker":
        arguments["SOURCE_DATE_EPOCH"] = str(seconds)
    else:
        flags = [f"--timestamp={seconds}", *flags]
    given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    subprocess.run([builder, "build", f"--tag={tag}", *given, *flags, str(ROOT)], check=True)
    print(f"{tag} is built, with {builder}")


def default_base() -> str:
    """Return the Dockerfile's default base image, so that the image's label can name it."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [base] = re.findall(r"^FROM (\S+) AS default-base$", text, re.MULTILINE)
    return str(base)


def _git(*args: str) -> str:
    """Return git's output, or "" without git or outside a repository (a source archive)."""
    if not shutil.which("git"):
        return ""
    return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", default=TAG, help="default: %(default)s")
    parser.add_argument("--base-image", help="default: the Dockerfile's")
    parser.add_argument("--show-tag", action="store_true", help="print the tag, and build nothing")
    options, flags = parser.parse_known_args()
    if options.show_tag:
        print(options.tag)
        return 0
    try:
        build(options.tag, options.base_image, flags)
    except NoEngineError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
