"""What the models of the resource have in common: how fields and times are read and written."""

from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_ZERO = timedelta()


def whole_seconds(moment: datetime) -> datetime:
    """Returns a time as status holds it: UTC, whole seconds, like every other time in Kubernetes, and bounded."""
    moment = _bounded(moment)
    if not moment.microsecond and moment.utcoffset() == _ZERO:
        return moment  # nearly always
    return moment.astimezone(UTC).replace(microsecond=0)


def _bounded(moment: datetime) -> datetime:
    # A time at the ends of the calendar (a restored or hand-written status) would overflow in the rules' arithmetic.
    return moment if EARLIEST < moment < LATEST else min(max(moment, EARLIEST), LATEST)


def _list(value: object) -> object:
    return value if value is not None else ()


Time = Annotated[
    AwareDatetime,
    AfterValidator(_bounded),
    PlainSerializer(lambda moment: whole_seconds(moment).isoformat().replace("+00:00", "Z"), return_type=str),
]
"""RFC 3339, UTC, whole seconds."""

Texts = Annotated[tuple[str, ...], BeforeValidator(_list)]
"""A list of strings; null reads as an empty list."""

NullAsEmpty = BeforeValidator(_list)


class Model(BaseModel):
    """A part of the resource. Immutable; camelCase in JSON; unknown fields are ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, ignored_types=(cached_property,)
    )
