"""The reasons of conditions and Events.

They are API: users' alerts and scripts match on them. None is renamed, and none changes its meaning.
"""

from enum import StrEnum


class Reason(StrEnum):
    """One vocabulary for conditions, Events, logs and metrics."""

    # What a certificate is needed for; Issuing is True with these.
    FIRST_ISSUE = "FirstIssue"
    NAMES_CHANGED = "NamesChanged"
    RENEWAL_DUE = "RenewalDue"
    RENEW_REQUESTED = "RenewRequested"
    EXPIRED = "Expired"
    CERTIFICATE_GONE = "CertificateGone"
    SOURCE_CHANGED = "SourceChanged"

    # What went well.
    ISSUED = "Issued"
    RENEWED = "Renewed"
    REUSED = "Reused"
    DELETED = "Deleted"
    RETAINED = "Retained"
    ADOPTED = "Adopted"
    CHANGED = "CertificateChanged"

    # Why nothing is issued although it might be needed.
    SUSPENDED = "Suspended"
    DUPLICATE_OF = "DuplicateOf"
    SCOPE_CHANGED = "ScopeChanged"
    SCOPE_VANISHED = "ScopeVanished"
    UNEXPECTED_ANSWER = "UnexpectedAnswer"
    ADOPTION_REFUSED = "AdoptionRefused"
    NOT_RENEWED = "NotRenewed"
    ISSUANCE_LIMITED = "IssuanceLimited"
    TOO_MANY_SUPERSEDED = "TooManySuperseded"
    CLOCK_SKEW = "ClockSkew"
    SCHEMA_OUTDATED = "SchemaOutdated"
    RECORD_UNREADABLE = "RecordUnreadable"
    SOURCE_INVALID = "SourceInvalid"
    SOURCE_NOT_RENEWED = "SourceNotRenewed"

    # What Vercel said, or what kept the operator from asking; the table is in ``failures``.
    INVALID_REQUEST = "InvalidRequest"
    CREDENTIALS_INVALID = "CredentialsInvalid"
    PAYMENT_REQUIRED = "PaymentRequired"
    PERMISSION_DENIED = "PermissionDenied"
    DOMAIN_NOT_FOUND = "DomainNotFound"
    RATE_LIMITED = "RateLimited"
    DOMAIN_NOT_CONFIGURED = "DomainNotConfigured"
    OUTCOME_UNKNOWN = "OutcomeUnknown"
    VERCEL_UNREACHABLE = "VercelUnreachable"
    VERCEL_UNAVAILABLE = "VercelUnavailable"
    REQUEST_REFUSED = "RequestRefused"
    LIST_TOO_LONG = "ListTooLong"
    ATTEMPT_LOST = "AttemptLost"

    # Events only.
    DELETION_FAILED = "DeletionFailed"
    REMOVAL_FAILED = "RemovalFailed"
    ORPHANED = "OrphanedCertificate"
