"""A Kubernetes operator that manages TLS certificates at Vercel.

Three layers, and imports only point downward (``make check`` holds them to it):

``core``
    The rules. Pure: no kopf, httpx, kubernetes, asyncio or clock of its own.
``vercel``, ``kube``
    The edges: Vercel's REST API, and the Kubernetes API.
``reconciler``
    The only place where they meet.

``wiring`` builds an operator from these, ``app`` starts it, ``process`` is its life, and ``cli`` its command line.
"""

from vercel_certificate_operator import lazy_modules
from vercel_certificate_operator._version import __version__

lazy_modules.install()

__all__ = ["__version__"]
