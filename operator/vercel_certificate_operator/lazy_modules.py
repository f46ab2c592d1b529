"""Loads the parts of libraries that the operator doesn't use only once something uses them."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader

_UNUSED = frozenset(
    {f"kubernetes.{part}" for part in ("config", "dynamic", "informer", "leaderelection", "stream", "utils", "watch")}
    | {f"kubernetes.aio.{part}" for part in ("dynamic", "stream", "utils", "watch")}
)
"""What ``import kubernetes`` loads, and the asyncio client doesn't need.

With it come 200 modules of requests, urllib3, oauthlib and websocket: 8 MB, an eighth of what all imports take.
"""


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, _target: object = None) -> ModuleSpec | None:
        if name not in _UNUSED:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def install() -> None:
    """Takes effect for all imports that follow. kopf imports ``kubernetes`` too, so it must come before that."""
    sys.meta_path.insert(0, _Finder)
