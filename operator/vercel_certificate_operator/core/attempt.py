"""The write-ahead record of an issuance: written to the resource before Vercel is asked."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

ANNOTATION = "vercel-operator.io/attempt"


Text = Annotated[str, Field(min_length=1)]


class _Written(BaseModel):
    """The shape of the annotation's value. Strict, so that nothing odd is read into an edited one."""

    model_config = ConfigDict(strict=True, extra="ignore")

    id: Text
    uid: Text
    start: AwareDatetime
    generation: int
    cns: Annotated[frozenset[Text], Field(min_length=1)]
    renew: str | None = None
    reason: str = ""
    replaces: tuple[Text, ...] = ()
    clock_offset: Annotated[float | None, Field(alias="clockOffset", allow_inf_nan=False, ge=-1e9, le=1e9)] = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to issue a certificate: at most one POST is ever sent for its id."""

    id: str
    uid: str
    """The resource's uid. A copied manifest carries the uid of another: then the attempt isn't ours."""
    start: datetime
    """By this machine's clock, aware, UTC."""
    generation: int
    """The generation of the spec that it was begun for."""
    cns: frozenset[str]
    """Names in lower case."""
    renew: str | None = None
    """The value of the renew annotation that it answers."""
    reason: str = ""
    """What it is for."""
    replaces: tuple[str, ...] = ()
    """The ids that stood in status when it was begun: should status be lost, they are not."""
    clock_offset: timedelta | None = None
    """Vercel's clock less that of the machine that wrote ``start``, where that was known: who resolves the attempt may
    have another clock."""

    def dumps(self) -> str:
        """The annotation's value. The same attempt always gives the same text: writes are fenced by it."""
        value: dict[str, Any] = {
            "id": self.id,
            "uid": self.uid,
            "start": self.start.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "generation": self.generation,
            "cns": sorted(self.cns),
            "reason": self.reason,
        }
        if self.replaces:
            value["replaces"] = list(self.replaces)
        if self.renew is not None:
            value["renew"] = self.renew
        if self.clock_offset is not None:
            value["clockOffset"] = round(self.clock_offset.total_seconds(), 3)
        return json.dumps(value, separators=(",", ":"))

    @classmethod
    def loads(cls, text: str) -> Self | None:
        """An annotation's value as an attempt; None where it isn't one (somebody has edited it)."""
        try:
            written = _Written.model_validate_json(text).model_dump()
        except ValidationError:
            return None
        offset = written.pop("clock_offset")
        return cls(**written, clock_offset=timedelta(seconds=offset) if offset is not None else None)
