"""Generate the chart's README from the comments in its values.yaml; see ``generate.py``.

A comment belongs to the key below it. The keys of a map of ours are listed as ``map.key``, at any depth.
"""

import json
import re
from functools import reduce
from operator import getitem
from pathlib import Path

import yaml

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "vercel-certificate-operator"
HEAD = """# Helm chart of vercel-certificate-operator

Generated from `values.yaml` by `make generate`. How to install: `docs/installing.md`.

| Value | Default | |
|---|---|---|
"""
KEY = re.compile(r"^( *)([a-zA-Z]+):(.*)$")
WHOLE = {"resources", "podSecurityContext", "securityContext"}
"""Maps that are listed as one value, since Kubernetes defines what stands in them."""


def readme() -> str:
    """Return the content of the README."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    rows: list[str] = []
    comment: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip(" #"))
            continue
        found = KEY.match(line)
        if found is not None:
            indent, key, rest = found.groups()
            path = [*path[: len(indent) // 2], key]
            is_map = not rest.strip() and path[0] not in WHOLE
            if (comment or not is_map) and (path[0] not in WHOLE or not indent):
                default = "" if is_map else f"`{json.dumps(reduce(getitem, path, values))}`"
                rows.append(f"| `{'.'.join(path)}` | {default} | {' '.join(comment)} |")
        comment = []
    return HEAD + "\n".join(row.replace("|  |", "| |") for row in rows) + "\n"
