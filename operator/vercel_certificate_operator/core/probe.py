"""A status in which every field has a value: an API server that stores all of it stores every record."""

from datetime import UTC, datetime

from vercel_certificate_operator.core.domains import DomainStatus, Record
from vercel_certificate_operator.core.record import Attempt, Issuance, Origin, Outcome, Superseded
from vercel_certificate_operator.core.resource import Condition, Status

_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_CNS = ("probe.example.com",)
_CONDITION = Condition(
    type="Ready", status="True", reason="Probe", message="A probe.", last_transition_time=_TIME, observed_generation=1
)

PROBE = Status(
    id="cert_probe",
    origin=Origin.ISSUED,
    cns=_CNS,
    requested_cns=_CNS,
    created_at=_TIME,
    expires_at=_TIME,
    renewal_time=_TIME,
    auto_renew=True,
    team="team_probe",
    token_hash="0",  # noqa: S106 - no secret
    fingerprint="0",
    shared_names=True,
    scope_vanished=True,
    observed_generation=1,
    attempt=Attempt(
        id="probe",
        start=_TIME,
        generation=1,
        cns=_CNS,
        reason="Probe",
        team="team_probe",
        known=("cert_probe",),
        server_start=_TIME,
        listed=_TIME,
        renew_request="probe",
        requested=True,
        token_hash="0",  # noqa: S106 - no secret
        fingerprint="0",
        expires_at=_TIME,
        chain_hash="0",
        previous_failures=1,
        previous_reason="Probe",
        blamed_cns=_CNS,
        outcome=Outcome.ISSUED,
        outcome_reason="Probe",
        retry_time=_TIME,
    ),
    superseded=(
        Superseded(
            id="cert_old",
            origin=Origin.ISSUED,
            team="team_probe",
            fingerprint="0",
            since=_TIME,
            cns=_CNS,
            renewable_since=_TIME,
        ),
    ),
    issuances=(Issuance(time=_TIME, names_hash="0", request_hash="0"),),
    domains=(
        DomainStatus(
            name=_CNS[0],
            misconfigured=True,
            configured_by="A",
            accepted_challenges=("http-01",),
            recommended=(Record(type="A", value="192.0.2.1"),),
        ),
    ),
    last_renew_request="probe",
    last_adopt_request="probe",
    failed_attempts=1,
    last_failure_time=_TIME,
    next_attempt_time=_TIME,
    conditions=(_CONDITION, _CONDITION.model_copy(update={"type": "Issuing"})),
)
