"""``python -m vercel_emulator``: the ``emulate`` command."""

from vercel_emulator.cli import emulate

if __name__ == "__main__":
    emulate()
