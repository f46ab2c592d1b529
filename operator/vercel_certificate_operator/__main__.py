"""``python -m vercel_certificate_operator``, and the command ``vercel-certificate-operator``."""

import os
import signal
from types import FrameType


def main() -> None:
    """Runs the command line."""
    if os.getpid() == 1:
        # The kernel ignores SIGTERM for process 1 of a container until it is handled. Without this, a pod that is
        # deleted while the modules are being imported would hang for its whole grace period.
        signal.signal(signal.SIGTERM, _end)
    from vercel_certificate_operator.cli import main as command_line

    command_line()


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)  # nothing was started that must be finished


if __name__ == "__main__":
    main()
