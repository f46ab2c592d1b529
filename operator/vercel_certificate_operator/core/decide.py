"""The order of the rules: what to do next for one resource.

``decide`` asks the policies in their order; the first that has something to say decides. Each is a pure function of
the known facts, reads like the rule that it states, and is the only place of that rule. The reconciler carries out
the decision, adds what it learned and asks again.

The rules are in ``rules``, by subject. Why a certificate has to be issued is the list ``NEEDS`` in ``rules.needs``;
what must be so before one is issued is the list ``GATES`` in ``rules.gates``.
"""

from collections.abc import Callable
from dataclasses import replace

from vercel_certificate_operator.core.known import Decision, Known
from vercel_certificate_operator.core.rules.adoption import named_certificate_is_adopted
from vercel_certificate_operator.core.rules.attempts import (
    attempt_in_flight_is_waited_for,
    fenced_off_certificate_is_reported,
    open_attempt_is_searched_for,
    outcome_is_recorded,
    void_attempt_is_recorded,
)
from vercel_certificate_operator.core.rules.clocks import times_of_the_future_are_corrected
from vercel_certificate_operator.core.rules.deletion import (
    certificates_are_removed_then_released,
    deletion_without_finalizer_is_left_alone,
    resource_without_token_is_released,
    retained_is_released,
)
from vercel_certificate_operator.core.rules.drift import (
    changed_token_is_checked,
    confirmed_absence_is_recorded,
    drift_is_detected,
    shared_names_are_recorded,
    vanished_scope_is_reported,
)
from vercel_certificate_operator.core.rules.failed_calls import waited_for
from vercel_certificate_operator.core.rules.gates import issued_when_needed
from vercel_certificate_operator.core.rules.standing import (
    nothing_is_needed,
    record_must_be_readable,
    record_must_be_stored,
    scope_stays,
    suspended_changes_nothing,
)
from vercel_certificate_operator.core.rules.superseded import (
    finalizer_is_restored,
    renewals_of_what_was_removed_are_reported,
    superseded_is_removed_in_time,
)
from vercel_certificate_operator.core.rules.upload import source_is_usable, source_that_is_not_renewed_is_reported

Policy = Callable[[Known], Decision | None]

POLICIES: tuple[Policy, ...] = (
    # Deletion without any call comes first: nothing may hold it up.
    deletion_without_finalizer_is_left_alone,
    retained_is_released,
    resource_without_token_is_released,
    # Before everything that relies on the record.
    record_must_be_readable,
    # What was learned from Vercel is recorded before anything else is done, or it would be lost in a crash.
    outcome_is_recorded,
    void_attempt_is_recorded,
    fenced_off_certificate_is_reported,
    # Until the outcome of an attempt is known, nothing else is true about the resource.
    attempt_in_flight_is_waited_for,
    finalizer_is_restored,  # before the search: the resource may have a certificate
    open_attempt_is_searched_for,
    # Before all that issues or keeps; after the search, so that no certificate is left behind.
    certificates_are_removed_then_released,
    record_must_be_stored,  # before all that writes to the record: what is dropped would seem to be news each time
    times_of_the_future_are_corrected,  # before all that compares them with the time
    renewals_of_what_was_removed_are_reported,  # before the entry of what was removed goes
    superseded_is_removed_in_time,  # before all that reports a problem and waits
    named_certificate_is_adopted,  # before what it can end: a changed token, a vanished scope, an unexpected answer
    shared_names_are_recorded,  # before all that takes a renewal
    changed_token_is_checked,  # before absence: with the token of another account, everything seems gone
    vanished_scope_is_reported,  # before absence, for the same reason
    confirmed_absence_is_recorded,  # before drift: a renewal by Vercel counts then, whenever it was made
    drift_is_detected,
    suspended_changes_nothing,  # after drift, which is reported in suspended resources too
    scope_stays,  # before the needs: a call would go to another scope
    source_is_usable,  # before the needs, which compare the Secret with what is at Vercel
    source_that_is_not_renewed_is_reported,
    issued_when_needed,
    nothing_is_needed,
)


def decide(known: Known) -> Decision:
    """Returns the next right thing for one resource, with the name of the rule that decided."""
    for policy in POLICIES:
        decision = policy(known)
        if decision is not None:
            named = decision if decision.policy else replace(decision, policy=policy.__name__)
            return waited_for(known, named)
    raise AssertionError("the last policy always decides")
