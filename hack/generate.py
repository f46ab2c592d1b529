"""Write every file that is generated from another one: ``make generate``.

With ``--check``, as ``make check`` runs it, nothing is written; a file that is out of date is an error.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import argocd_cm
import chart_readme
import dashboard
import recording

ROOT = Path(__file__).parents[1]
CHART = Path("deploy") / "helm" / "vercel-certificate-operator"
CRD = Path("deploy") / "crds" / "vercelcertificates.yaml"


def crd() -> str:
    """Return the CRD. The chart has a copy, because Helm reads no files outside a chart."""
    return (ROOT / CRD).read_text(encoding="utf-8")


GENERATED: dict[Path, Callable[[], str]] = {
    CHART / "files" / CRD.name: crd,
    CHART / "files" / "dashboard.json": dashboard.text,
    CHART / "README.md": chart_readme.readme,
    Path("deploy") / "argocd" / "argocd-cm.yaml": argocd_cm.config_map,
    Path("docs") / "demo.svg": recording.svg,
}
"""What each generated file contains. The paths are relative to the root."""


def outdated(root: Path = ROOT) -> list[Path]:
    """Return the generated files below ``root`` that are missing or out of date."""
    return [path for path, text in GENERATED.items() if _read(root / path) != text()]


def write(root: Path = ROOT) -> list[Path]:
    """Write the generated files below ``root`` that are out of date, and return them."""
    found = outdated(root)
    for path in found:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(GENERATED[path](), encoding="utf-8")
    return found


def _read(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    if not parser.parse_args().check:
        for path in write():
            print(f"wrote {path}")
        return 0
    found = outdated()
    if found:
        print(f"out of date: {', '.join(map(str, found))}; run 'make generate'", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
