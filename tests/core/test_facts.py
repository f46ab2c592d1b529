"""Facts that several rules ask for, where no rule shows them well."""

import pytest

from core.building import NOW, ConditionValue, cert, known, ready
from vercel_certificate_operator.core.facts import unchanged


@pytest.mark.parametrize(("was", "is_told_anew"), [("True", True), ("False", False)])
def test_a_report_that_stays_is_in_todays_words_and_time_alone_makes_nothing_ready(
    was: ConditionValue, is_told_anew: bool
) -> None:
    status = ready(cert()).with_condition("Ready", was, "Issued", "As an older version said it.", generation=1, now=NOW)
    condition = unchanged(known(status=status)).condition("Ready")
    assert condition is not None
    assert condition.status == was
    assert (condition.message != "As an older version said it.") == is_told_anew
