"""Write the chart's README from the comments of its values.yaml: ``python hack/chart_readme.py``.

A comment belongs to the key below it. Keys of a map of ours are listed as ``map.key``.
"""

import json
import re
from pathlib import Path

import yaml

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "vercel-certificate-operator"
HEAD = """# Helm chart of vercel-certificate-operator

Made from `values.yaml` by `python hack/chart_readme.py`. How to install: `docs/installing.md`.

| Value | Default | |
|---|---|---|
"""
KEY = re.compile(r"^((?:  )?)([a-zA-Z]+):(.*)$")
WHOLE = {"resources", "podSecurityContext", "securityContext"}
"""Maps that are listed as one value, since Kubernetes defines what stands in them."""


def readme() -> str:
    """The README's text."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    rows, comment, parent = [], [], ""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip(" #"))
            continue
        found = KEY.match(line)
        if found is None:
            comment = []
            continue
        indent, key, rest = found.groups()
        if not indent:
            parent = key
        elif parent in WHOLE:
            continue
        is_map = not rest.strip() and not indent and parent not in WHOLE
        if comment or not is_map:
            default = "" if is_map else f"`{json.dumps(values[parent][key] if indent else values[key])}`"
            rows.append(f"| `{parent}.{key}` | {default} | " if indent else f"| `{key}` | {default} | ")
            rows[-1] += " ".join(comment) + " |"
        comment = []
    return HEAD + "\n".join(row.replace("|  |", "| |") for row in rows) + "\n"


if __name__ == "__main__":
    (CHART / "README.md").write_text(readme(), encoding="utf-8")
