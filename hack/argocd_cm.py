"""Generate ``deploy/argocd/argocd-cm.yaml`` from the files of the resource customization; see ``generate.py``.

It is for an Argo CD in which the customization is not built in.
"""

from pathlib import Path
from textwrap import indent

ARGOCD = Path(__file__).parents[1] / "deploy" / "argocd"
GROUP, KIND = "vercel-operator.io", "VercelCertificate"
CUSTOMIZATION = ARGOCD / "resource_customizations" / GROUP / KIND
CONFIG_MAP = ARGOCD / "argocd-cm.yaml"
HEAD = """\
# The health of a VercelCertificate, and the action that renews it. A patch that adds both to Argo CD's own ConfigMap:
#   kubectl -n argocd patch configmap argocd-cm --type=merge --patch-file=deploy/argocd/argocd-cm.yaml
# Don't use kubectl apply: it can delete the other entries of that ConfigMap.
# `make generate` generates this file from resource_customizations/.
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
data:
"""


def config_map() -> str:
    """Return the content of ``argocd-cm.yaml``."""
    health = _text(CUSTOMIZATION / "health.lua")
    discovery = _text(CUSTOMIZATION / "actions" / "discovery.lua")
    actions = f"discovery.lua: |\n{_indented(discovery, 2)}definitions:\n"
    for script in sorted(CUSTOMIZATION.glob("actions/*/action.lua")):
        actions += f"  - name: {script.parent.name}\n    action.lua: |\n{_indented(_text(script), 6)}"
    entries = {"health": health, "actions": actions}
    return HEAD + "".join(
        f"  resource.customizations.{what}.{GROUP}_{KIND}: |\n{_indented(text, 4)}" for what, text in entries.items()
    )


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _indented(text: str, by: int) -> str:
    return indent(text, " " * by)
