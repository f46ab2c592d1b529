"""The version, in its one place: the build, ``--version``, the User-Agent and the chart take it from here."""

__version__ = "0.1.0"
