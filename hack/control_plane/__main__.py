"""Provide the control plane's programs and print their folder, for ``KUBEBUILDER_ASSETS``."""

import argparse
import sys

from control_plane import binaries
from control_plane.cache import UnavailableError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m control_plane", description=__doc__)
    parser.add_argument(
        "--controller-manager", action="store_true", help="also kube-controller-manager (a minute more)"
    )
    options = parser.parse_args()
    try:
        assets = binaries.find(controller_manager=options.controller_manager)
    except UnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(assets.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
