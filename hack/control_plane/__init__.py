"""A real Kubernetes control plane (kube-apiserver and etcd) for tests and the demo."""

from control_plane.audit import Audit, Request, Requests
from control_plane.cache import UnavailableError
from control_plane.cluster import ControlPlane, ControlPlaneError
from control_plane.kubectl import KubectlError
from control_plane.processes import Process, temporary_folder
from control_plane.progress import Progress, elapsed

__all__ = [
    "Audit",
    "ControlPlane",
    "ControlPlaneError",
    "KubectlError",
    "Process",
    "Progress",
    "Request",
    "Requests",
    "UnavailableError",
    "elapsed",
    "temporary_folder",
]
