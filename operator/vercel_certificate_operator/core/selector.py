"""Label selectors, as the Kubernetes API understands them.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors: requirements with commas
between them, all of which must hold: ``key=value`` (``==`` is the same), ``key!=value``, ``key in (a,b)``,
``key notin (a,b)``, ``key`` (there is such a label), ``!key`` (there is none). A missing label
matches ``!=`` and ``notin``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_VALUES = rf"\(\s*(?:{_NAME})?\s*(?:,\s*(?:{_NAME})?\s*)*\)"
_REQUIREMENT = re.compile(
    rf"\s*(?:!\s*(?P<absent>(?:{_PREFIX}/)?{_NAME})"
    rf"|(?P<key>(?:{_PREFIX}/)?{_NAME})"
    rf"(?:\s*(?P<operator>==?|!=)\s*(?P<value>(?:{_NAME})?)|\s+(?P<set>in|notin)\s*(?P<values>{_VALUES}))?)\s*(?:,|$)"
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement: whether the label's value (None: there is no such label) is one of these, or is none of them."""

    key: str
    values: frozenset[str | None] | None
    """None: any, but the label must be there."""
    negated: bool = False

    def holds(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.values is None:
            return (value is not None) != self.negated
        return (value in self.values) != self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """A label selector. ``Selector()`` matches everything."""

    requirements: tuple[Requirement, ...] = ()
    text: str = ""
    """As the API takes it."""

    @classmethod
    def parse(cls, text: str) -> "Selector":
        """Returns the selector that a text describes. Raises ValueError with one line for users."""
        requirements, at = [], 0
        if not text.strip():
            return cls()
        while at < len(text) or text[:at].endswith(","):
            match = _REQUIREMENT.match(text, at)
            if match is None:
                raise ValueError(
                    f"{text!r} is not a label selector: expected something like 'team=web', 'team in (web,shop)' "
                    f"or '!legacy', but found {text[at:].strip()!r}"
                )
            requirements.append(_requirement(match))
            at = match.end()
        return cls(tuple(requirements), text.strip())

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Returns whether all requirements hold."""
        return all(requirement.holds(labels) for requirement in self.requirements)


def _requirement(match: re.Match[str]) -> Requirement:
    if match["absent"] is not None:
        return Requirement(match["absent"], None, negated=True)
    if match["operator"] is not None:
        return Requirement(match["key"], frozenset({match["value"]}), negated=match["operator"] == "!=")
    if match["set"] is not None:
        values = frozenset(value.strip() for value in match["values"][1:-1].split(","))
        return Requirement(match["key"], values, negated=match["set"] == "notin")
    return Requirement(match["key"], None)
