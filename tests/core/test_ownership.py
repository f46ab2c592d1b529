"""Who owns a set of names: the index of claims."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.building import DAY, HOUR, NOW, OTHER_TEAM, PERSONAL, SECOND, TEAM
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.index import Index
from vercel_certificate_operator.core.known import Ownership
from vercel_certificate_operator.core.ownership import Claim, Claims, Group, Seniority
from vercel_certificate_operator.core.resource import Key

A, B = frozenset({"a.com"}), frozenset({"b.com"})
SLUG = Scope(team_slug="acme")
TURN = timedelta(seconds=180)


def key_of(name: str) -> Key:
    namespace, _, short = name.rpartition("/")
    return Key(namespace or "web", short, f"uid-{short}")


def claim(
    name: str,
    *,
    age: int = 1,
    cns: frozenset[str] = A,
    scope: Scope = TEAM,
    token: object = None,
    eligible: bool = True,
    holds: str | None = None,
    expires: datetime | None = NOW + DAY,
    attempt: datetime | None = None,
    attempt_cns: frozenset[str] | None = None,
    holds_cns: frozenset[str] | None = None,
    shares: bool = False,
) -> Claim:
    """Returns what a resource claims.

    Args:
        age: in days.
        holds: the id of its certificate.
        holds_cns: the names of that, if they are not ``cns``.
        attempt: when its attempt was first seen. The monotonic clock is at 0 ``NOW``.
    """
    created = (NOW - age * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
    key = key_of(name)
    group = Group(cns, scope, token if scope == PERSONAL else None)
    attempted = (attempt_cns or cns) if attempt else frozenset()
    seen = (attempt - NOW).total_seconds() if attempt else None
    held = (holds_cns or cns) if holds else frozenset[str]()
    until = expires if holds else None
    return Claim(group, Seniority(created, key.uid, key), eligible, holds, until, seen, attempted, held, shares)


def claims_of(*, monotonic: Callable[[], float] = lambda: 0.0, **claims: Claim) -> Claims:
    found = Claims(monotonic)
    for name, one in claims.items():
        found.put(key_of(name), one)
    return found


def owner(claims: Claims, name: str, now: datetime = NOW) -> str | None:
    """Returns the owner, if it is another one."""
    return claims.ownership(key_of(name), now).owner


def owning(claims: Claims, of: Claim, now: datetime = NOW) -> str | None:
    (found,) = claims.owners(of.group, now) or [None]
    return found.name if found else None


# --- in one scope -----------------------------------------------------------------------------------------------------


def test_the_oldest_owns_the_names() -> None:
    claims = claims_of(young=claim("young", age=1), old=claim("old", age=2))
    assert (owner(claims, "young"), owner(claims, "old")) == ("web/old", None)


def test_of_the_same_second_the_uid_decides() -> None:
    claims = claims_of(b=claim("b"), a=claim("a"))
    assert (owner(claims, "b"), owner(claims, "a")) == ("web/a", None)


@pytest.mark.parametrize(
    ("young", "owns"),
    [
        pytest.param({"holds": "cert_1"}, True, id="holds a certificate"),
        pytest.param({"holds": "cert_1", "expires": NOW}, False, id="an expired one"),
        pytest.param({"holds": "cert_1", "expires": NOW + SECOND}, True, id="one that expires soon"),
        pytest.param({"holds": "cert_1", "expires": None}, False, id="one whose expiry is unknown"),
        pytest.param({"attempt": NOW}, True, id="attempts"),
        pytest.param({"attempt": NOW - HOUR + SECOND}, True, id="attempts for an hour"),
        pytest.param({"attempt": NOW - HOUR}, False, id="attempts for longer"),
        pytest.param({"holds": "cert_1", "eligible": False}, True, id="holds one, suspended"),
    ],
)
def test_who_holds_a_certificate_or_attempts_owns_the_names_whatever_its_age(young: dict[str, Any], owns: bool) -> None:
    claims = claims_of(old=claim("old", age=2), young=claim("young", **young))
    assert owner(claims, "old") == ("web/young" if owns else None)
    assert owner(claims, "young") == (None if owns else "web/old")


def test_of_several_holders_the_oldest_owns_the_names() -> None:
    claims = claims_of(
        oldest=claim("oldest", age=3, holds="cert_0", expires=NOW),
        old=claim("old", age=2, holds="cert_1"),
        young=claim("young", holds="cert_2"),
    )
    assert (owner(claims, "young"), owner(claims, "oldest"), owner(claims, "old")) == ("web/old", "web/old", None)


def test_who_is_suspended_or_being_deleted_and_holds_nothing_does_not_block_the_names() -> None:
    claims = claims_of(old=claim("old", age=2, eligible=False), young=claim("young"))
    assert (owner(claims, "young"), owner(claims, "old")) == (None, "web/young")


def test_if_nobody_is_eligible_nobody_owns_the_names() -> None:
    only = claim("only", eligible=False)
    claims = claims_of(only=only)
    assert (owner(claims, "only"), owning(claims, only)) == (None, None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param({}, {}, True, id="the same"),
        pytest.param({"cns": A}, {"cns": B}, False, id="other names"),
        pytest.param({"cns": A}, {"cns": A | B}, False, id="overlapping names"),
        pytest.param({"scope": TEAM}, {"scope": OTHER_TEAM}, False, id="two teams"),
        pytest.param({"scope": SLUG}, {"scope": SLUG}, True, id="one slug"),
        pytest.param({"scope": TEAM}, {"scope": SLUG}, False, id="id and slug"),
        pytest.param({"scope": PERSONAL, "token": "t"}, {"scope": PERSONAL, "token": "t"}, True, id="one token"),
        pytest.param({"scope": PERSONAL, "token": "t"}, {"scope": PERSONAL, "token": "u"}, False, id="two tokens"),
    ],
)
def test_the_names_have_one_owner_in_one_scope(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    claims = claims_of(old=claim("old", age=2, **one), young=claim("young", **other))
    assert owner(claims, "young") == ("web/old" if same else None)


def test_an_unknown_resource_claims_nothing() -> None:
    claims = claims_of(old=claim("old"))
    assert claims.ownership(key_of("unknown"), NOW) == Ownership()
    assert claims.group_of(key_of("unknown")) is None
    assert not claims.may_hold(key_of("unknown"))
    assert not claims.owners(Group(B, TEAM, None), NOW)
    claims.reserve(key_of("unknown"))
    claims.release(key_of("unknown"))
    assert claims.ownership(key_of("old"), NOW) == Ownership()


# --- changes ----------------------------------------------------------------------------------------------------------


def test_when_the_owner_goes_the_next_in_line_owns_the_names() -> None:
    old, young = claim("old", age=2), claim("young")
    claims = claims_of(old=old, young=young)
    claims.put(key_of("old"), None)
    assert (owner(claims, "young"), owning(claims, old)) == (None, "young")
    claims.put(key_of("young"), None)
    assert owning(claims, old) is None


def test_a_claim_that_changes_moves() -> None:
    old, young = claim("old", age=2, holds="cert_1"), claim("young")
    claims = claims_of(old=old, young=young)
    claims.put(key_of("old"), claim("old", age=2, cns=B))
    assert owner(claims, "young") is None
    assert claims.group_of(key_of("old")) == Group(B, TEAM, None)
    claims.put(key_of("old"), old)
    assert owner(claims, "young") == "web/old"


def test_a_reservation_counts_before_it_is_recorded() -> None:
    """Two resources with the same names are created at the same moment."""
    ticks = [0.0]
    claims = claims_of(monotonic=lambda: ticks[0], old=claim("old", age=2), young=claim("young"))
    assert not claims.may_hold(key_of("young"))
    claims.reserve(key_of("young"))
    assert claims.may_hold(key_of("young"))
    assert owner(claims, "old") == "web/young"
    ticks[0] = 3599.0
    assert owner(claims, "old", NOW + DAY) == "web/young", "whatever the wall clock says"
    ticks[0] = 3600.0
    assert owner(claims, "old") is None, "no reservation blocks the names for ever"
    claims.release(key_of("young"))
    assert not claims._attempting, "nor does it stay in the index"
    claims.release(key_of("young"))
    assert owner(claims, "old") is None
    assert not claims.may_hold(key_of("young"))


def test_a_reservation_survives_a_new_state_and_ends_with_the_resource() -> None:
    claims = claims_of(old=claim("old", age=2), young=claim("young"))
    claims.reserve(key_of("young"))
    claims.put(key_of("young"), claim("young"))
    assert owner(claims, "old") == "web/young"
    claims.put(key_of("young"), None)
    claims.put(key_of("young"), claim("young"))
    assert owner(claims, "old") is None


@pytest.mark.parametrize(
    ("one", "may"),
    [
        (claim("one"), False),
        (claim("one", holds="cert_1", expires=NOW - DAY), True),
        (claim("one", attempt=NOW - DAY), True),
    ],
    ids=["nothing", "an expired certificate", "an old attempt"],
)
def test_who_may_hold_the_names(one: Claim, may: bool) -> None:
    assert claims_of(one=one).may_hold(key_of("one")) is may


# --- in scopes that may be the same -----------------------------------------------------------------------------------


def test_a_holder_whose_scope_may_be_the_same_is_named_with_its_certificate() -> None:
    claims = claims_of(old=claim("old", age=2, scope=SLUG, holds="cert_1"), young=claim("young"))
    assert claims.ownership(key_of("young"), NOW) == Ownership(holders={"cert_1": "web/old"})
    assert claims.ownership(key_of("old"), NOW) == Ownership()


@pytest.mark.parametrize(
    ("other", "counts"),
    [
        pytest.param({"scope": SLUG}, True, id="id and slug"),
        pytest.param({"scope": PERSONAL, "token": "t"}, True, id="a personal account"),
        pytest.param({"scope": OTHER_TEAM}, False, id="certainly another team"),
        pytest.param({"scope": SLUG, "cns": B}, False, id="other names"),
        pytest.param({"scope": SLUG, "expires": NOW}, False, id="expired"),
        pytest.param({"scope": SLUG, "eligible": False}, True, id="suspended"),
        pytest.param({"scope": SLUG, "age": 1}, True, id="younger, but it has one"),
    ],
)
def test_only_what_may_be_in_the_same_scope_counts(other: dict[str, Any], counts: bool) -> None:
    claims = claims_of(other=claim("other", **{"age": 5, "holds": "cert_1", **other}), mine=claim("mine", age=2))
    assert claims.ownership(key_of("mine"), NOW).holders == ({"cert_1": "web/other"} if counts else {})


def test_of_two_that_hold_certificates_only_the_younger_has_to_look_at_the_other() -> None:
    claims = claims_of(old=claim("old", age=2, scope=SLUG, holds="cert_1"), young=claim("young", age=1, holds="cert_2"))
    assert claims.ownership(key_of("young"), NOW).holders == {"cert_1": "web/old"}
    assert claims.ownership(key_of("old"), NOW).holders == {}


def test_the_newest_certificates_are_named_first() -> None:
    claims = claims_of(
        a=claim("a", age=5, scope=SLUG, holds="cert_a", expires=NOW + DAY),
        b=claim("b", age=4, scope=PERSONAL, token="t", holds="cert_b", expires=NOW + 3 * DAY),
        c=claim("c", age=3, scope=PERSONAL, token="u", holds="cert_c", expires=NOW + 2 * DAY),
        mine=claim("mine"),
    )
    assert list(claims.ownership(key_of("mine"), NOW).holders) == ["cert_b", "cert_c", "cert_a"]


@pytest.mark.parametrize(
    ("other", "attempts"),
    [
        pytest.param({"attempt": NOW - SECOND}, True, id="an attempt"),
        pytest.param({"attempt": NOW - TURN + SECOND}, True, id="one that began less than three minutes ago"),
        pytest.param({"attempt": NOW - TURN}, False, id="one that can't be resolved for three minutes"),
        pytest.param({"attempt": NOW - SECOND, "scope": OTHER_TEAM}, False, id="certainly in another team"),
        pytest.param({"attempt": NOW - SECOND, "holds": "cert_1"}, False, id="a renewal: its certificate counts"),
        pytest.param({"attempt": NOW - SECOND, "holds": "cert_1", "expires": NOW}, True, id="its own has expired"),
    ],
)
def test_attempts_take_turns(other: dict[str, Any], attempts: bool) -> None:
    claims = claims_of(other=claim("other", **{"scope": SLUG, **other}), mine=claim("mine", age=2))
    assert claims.ownership(key_of("mine"), NOW).attempting == ("web/other" if attempts else None)


def test_resources_of_other_namespaces_hold_nobody_up_for_longer_than_one_turn() -> None:
    ticks = [0.0]
    mine, others = key_of("mine"), [Key("other", f"x{number}", f"uid-{number}") for number in range(3)]
    claims = claims_of(monotonic=lambda: ticks[0], mine=claim("mine"))

    def attempt(number: int) -> None:
        for other, one in enumerate(others):
            group = Group(A, PERSONAL, f"token-{other}")
            seen, cns = (ticks[0], A) if other == number else (None, frozenset[str]())
            claims.put(one, Claim(group, Seniority("2020", one.uid, one), True, None, None, seen, cns))

    def waits_for() -> str | None:
        return claims.ownership(mine, NOW).attempting

    attempt(0)
    assert waits_for() == "other/x0"
    ticks[0] = 100.0
    attempt(1)
    assert waits_for() == "other/x1"
    ticks[0] = 179.0
    attempt(2)
    assert waits_for() == "other/x2"
    ticks[0] = 180.0
    assert waits_for() is None, "it has waited for long enough"
    claims.put(key_of("near"), claim("near", scope=SLUG, attempt=NOW + timedelta(seconds=170)))
    assert waits_for() == "web/near", "those of its own namespace go on to take turns"
    claims.put(key_of("near"), None)
    claims.put(mine, claim("mine", attempt=NOW + TURN))
    claims.put(mine, claim("mine"))
    assert waits_for() == "other/x2", "it has had its turn"


def waits_for_a_new_attempt(claims: Claims, mine: Key, tick: float) -> bool:
    """Another namespace attempts to get a certificate, since just now. Returns whether a resource waits for that."""
    other = Key("other", "x", "uid-x")
    claims.put(other, Claim(Group(A, PERSONAL, "token"), Seniority("2020", "x", other), True, None, None, tick, A))
    return claims.ownership(mine, NOW).attempting is not None


def test_who_has_waited_but_could_not_make_its_request_keeps_its_turn_for_a_day() -> None:
    ticks, mine = [0.0], key_of("mine")
    claims = claims_of(monotonic=lambda: ticks[0], mine=claim("mine"))
    assert waits_for_a_new_attempt(claims, mine, ticks[0])
    ticks[0] = 180.0
    assert claims.ownership(mine, NOW).attempting is None, "it has waited for long enough"
    for ticks[0] in (360.0, 3600.0, DAY.total_seconds() - 1):
        claims.reserve(mine)
        claims.release(mine)
        claims.put(mine, claim("mine"))
        assert not waits_for_a_new_attempt(claims, mine, ticks[0])
    ticks[0] += DAY.total_seconds() + 1
    assert waits_for_a_new_attempt(claims, mine, ticks[0]), "another one may have got a certificate for both meanwhile"


def test_a_kept_turn_for_names_ends_with_the_need_for_which_it_was_kept() -> None:
    """'mine' waited, and a rate limit kept it from its request. Meanwhile it found a certificate, which is gone later.

    It used to make a request while another resource's attempt for the same names was open.
    """
    ticks, mine, other = [0.0], key_of("mine"), Key("other", "x", "uid-x")
    claims = claims_of(monotonic=lambda: ticks[0], mine=claim("mine"))
    assert waits_for_a_new_attempt(claims, mine, ticks[0])
    ticks[0] = 180.0
    assert claims.ownership(mine, NOW).attempting is None, "it has waited for long enough"
    claims.reserve(mine)
    claims.release(mine)
    claims.put(mine, claim("mine", holds="cert_by_hand"))
    assert claims.ownership(mine, NOW).attempting is None
    claims.put(other, None)
    ticks[0] = 3600.0
    claims.put(mine, claim("mine"))
    assert waits_for_a_new_attempt(claims, mine, ticks[0])


def test_who_has_waited_for_less_than_a_turn_keeps_none() -> None:
    """The attempt was over soon, and nothing came of the gap. Later it has to wait for the attempts of others again."""
    ticks, mine = [0.0], key_of("mine")
    claims = claims_of(monotonic=lambda: ticks[0], mine=claim("mine"))
    assert waits_for_a_new_attempt(claims, mine, ticks[0])
    ticks[0] = 10.0
    claims.put(Key("other", "x", "uid-x"), None)
    assert claims.ownership(mine, NOW).attempting is None
    ticks[0] = 3600.0
    assert waits_for_a_new_attempt(claims, mine, ticks[0])


def test_who_was_a_duplicate_meanwhile_waits_a_whole_turn_again() -> None:
    """Then its wait says nothing about the attempts that begin when the owner goes."""
    ticks, mine, owner = [0.0], key_of("mine"), key_of("owner")
    claims = claims_of(monotonic=lambda: ticks[0], mine=claim("mine"))
    assert waits_for_a_new_attempt(claims, mine, ticks[0])
    claims.put(owner, claim("owner", holds="cert_1"))
    assert claims.ownership(mine, NOW).owner is not None
    claims.put(owner, None)
    for ticks[0] in (359.0, 400.0, 500.0, 538.0):
        assert waits_for_a_new_attempt(claims, mine, ticks[0])


def test_who_did_not_ask_for_its_turn_for_long_waits_a_whole_turn_again() -> None:
    ticks, mine = [0.0], key_of("mine")
    claims = claims_of(monotonic=lambda: ticks[0], mine=claim("mine"))
    for ticks[0] in (0.0, 170.0, 351.0, 520.0):
        assert waits_for_a_new_attempt(claims, mine, ticks[0])


def test_who_can_not_make_its_request_is_not_in_the_way_of_those_behind_it() -> None:
    """Its token may be paused for days."""
    claims = claims_of(attempting=claim("attempting", scope=SLUG, attempt=NOW))
    paused, behind = Key("one", "a", "uid-a"), Key("one", "b", "uid-b")
    for key in (paused, behind):
        claims.put(key, Claim(Group(A, PERSONAL, key.name), Seniority("2026", key.uid, key), True, None, None, None))
        assert claims.ownership(key, NOW).attempting == "web/attempting"
    claims.reserve(paused)
    claims.release(paused)
    assert claims.next_in_line(A) == [behind]
    assert claims.ownership(paused, NOW).attempting == "web/attempting"
    assert claims.next_in_line(A) == [behind], "it waits again, behind the others"


@pytest.mark.parametrize(("attempted", "waits"), [(A, True), (B, False)], ids=["these names", "other names"])
@pytest.mark.parametrize("holds", [None, "cert_1"], ids=["first", "renewal"])
def test_an_attempt_counts_for_its_own_names_after_its_resource_has_changed_them(
    attempted: frozenset[str], waits: bool, holds: str | None
) -> None:
    changed = claim("changed", cns=A | {"c.com"}, attempt=NOW, attempt_cns=attempted, holds=holds)
    claims = claims_of(mine=claim("mine", age=2), changed=changed)
    expected = Ownership(attempting="web/changed" if waits else None)
    assert claims.ownership(key_of("mine"), NOW) == expected
    assert next_elsewhere(claims, claim("gone", scope=SLUG)) == "mine", "it decides itself that it waits"
    claims.put(key_of("changed"), claim("changed", cns=A | {"c.com"}, holds=holds))
    assert claims.ownership(key_of("mine"), NOW) == Ownership()


@pytest.mark.parametrize(
    ("other", "counts"),
    [
        pytest.param({"attempt": NOW}, True, id="of the same group"),
        pytest.param({"attempt": NOW, "scope": SLUG}, True, id="perhaps in the same team"),
        pytest.param({"attempt": NOW, "scope": OTHER_TEAM}, False, id="certainly in another team"),
        pytest.param({"attempt": NOW - HOUR + SECOND}, True, id="for less than an hour"),
        pytest.param({"attempt": NOW - HOUR}, False, id="for an hour"),
        pytest.param({"attempt": NOW - TURN + SECOND, "scope": SLUG}, True, id="perhaps in the same team, lately"),
        pytest.param({"attempt": NOW - TURN, "scope": SLUG}, False, id="perhaps in the same team, for three minutes"),
        pytest.param({"attempt": NOW, "cns": B}, False, id="for other names"),
        pytest.param({"attempt": NOW, "cns": B, "attempt_cns": A}, True, id="for names that it no longer wants"),
        pytest.param({"holds": "cert_1"}, False, id="it holds a certificate"),
    ],
)
def test_a_certificate_may_be_the_answer_to_another_resource(other: dict[str, Any], counts: bool) -> None:
    claims = claims_of(mine=claim("mine", attempt=NOW), other=claim("other", **other))
    assert claims.attempted_elsewhere(key_of("mine"), A) is counts
    claims.put(key_of("other"), None)
    assert not claims.attempted_elsewhere(key_of("mine"), A), "its own attempt doesn't count"
    assert not claims.attempted_elsewhere(key_of("gone"), A)


def test_a_reservation_counts_as_the_attempt_of_another_resource() -> None:
    claims = claims_of(mine=claim("mine"), other=claim("other"))
    claims.reserve(key_of("other"))
    assert claims.attempted_elsewhere(key_of("mine"), A)
    assert not claims.attempted_elsewhere(key_of("mine"), B)
    assert not claims.attempted_elsewhere(key_of("other"), A)


def test_an_attempt_for_more_names_counts_for_the_own_ones() -> None:
    young = claim("young", attempt=NOW, attempt_cns=A | B)
    assert owner(claims_of(old=claim("old", age=2), young=young), "old") == "web/young"


def test_an_attempt_for_other_names_makes_nobody_the_owner() -> None:
    young = claim("young", attempt=NOW, attempt_cns=B)
    assert owner(claims_of(old=claim("old", age=2), young=young), "young") == "web/old"


def test_a_reservation_is_an_attempt() -> None:
    claims = claims_of(other=claim("other", scope=SLUG), mine=claim("mine", age=2))
    claims.reserve(key_of("other"))
    assert claims.ownership(key_of("mine"), NOW).attempting == "web/other"
    claims.release(key_of("other"))
    assert claims.ownership(key_of("mine"), NOW) == Ownership()


def test_of_several_attempts_the_first_is_named() -> None:
    claims = claims_of(
        a=claim("a", scope=SLUG, attempt=NOW), b=claim("b", scope=PERSONAL, token="t", attempt=NOW), mine=claim("mine")
    )
    assert claims.ownership(key_of("mine"), NOW).attempting == "web/a"


# --- the next in line elsewhere ---------------------------------------------------------------------------------------


def next_elsewhere(claims: Claims, of: Claim, now: datetime = NOW) -> str | None:
    found = claims.next_elsewhere(of.group, now)
    assert len(found) <= 1, "one of each namespace"
    return found[0].name if found else None


def test_when_nobody_holds_the_names_any_longer_the_oldest_elsewhere_is_next() -> None:
    gone = claim("gone")
    claims = claims_of(
        old=claim("old", age=3, scope=SLUG),
        older=claim("older", age=4, scope=PERSONAL, token="t"),
        suspended=claim("suspended", age=5, scope=PERSONAL, token="u", eligible=False),
        other_team=claim("other_team", age=6, scope=OTHER_TEAM),
        other_names=claim("other_names", age=7, scope=SLUG, cns=B),
        same_group=claim("same_group", age=8),
        expired=claim("expired", age=9, scope=PERSONAL, token="v", eligible=False, holds="cert_9", expires=NOW),
    )
    assert next_elsewhere(claims, gone) == "older"
    claims.put(key_of("older"), None)
    assert next_elsewhere(claims, gone) == "old"
    claims.put(key_of("old"), None)
    assert next_elsewhere(claims, gone) is None


def test_of_each_namespace_one_is_next() -> None:
    """What other tenants have with other tokens keeps nobody from taking over."""
    one, two = Key("one", "a", "uid-a"), Key("two", "b", "uid-b")
    claims = Claims(lambda: 0.0)
    for number, key in enumerate((one, two, Key("two", "c", "uid-c"))):
        group = Group(A, PERSONAL, f"token-{number}")
        claims.put(key, Claim(group, Seniority(f"2026-01-0{number + 1}", key.uid, key), True, None, None, None))
    assert claims.next_elsewhere(claim("gone").group, NOW) == [one, two]


@pytest.mark.parametrize(
    ("holder", "waits"),
    [
        ({"holds": "cert_1"}, True),
        ({"attempt": NOW}, True),
        ({"holds": "cert_1", "expires": NOW}, False),
        ({"attempt": NOW - HOUR}, False),
    ],
    ids=["holds one", "attempts", "expired", "attempts for long"],
)
def test_while_someone_certainly_in_its_scope_holds_the_names_nobody_is_next(
    holder: dict[str, Any], waits: bool
) -> None:
    suspended = claim("holder", scope=SLUG, eligible=False, **holder)
    claims = claims_of(holder=suspended, next=claim("next", scope=SLUG))
    assert next_elsewhere(claims, claim("gone")) == (None if waits else "next")


# --- the index --------------------------------------------------------------------------------------------------------


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "other/c", "other/d"]),
        st.sampled_from(["put", "put", "drop", "reserve", "release"]),
        st.sampled_from([A, B]),
        st.sampled_from([TEAM, OTHER_TEAM, SLUG, PERSONAL]),
        st.integers(1, 3),
        st.booleans(),
        st.booleans(),
        st.sampled_from([None, NOW, NOW - 2 * HOUR]),
        st.booleans(),
    ),
    max_size=12,
)


@given(CHANGES)
def test_whatever_the_order_of_changes_the_index_knows_what_is_claimed_now(changes: list[Any]) -> None:
    claims, current, reserved = Claims(lambda: 0.0), dict[str, Claim](), set[str]()
    for name, what, cns, scope, age, eligible, holds, attempt, here in changes:
        if what == "put":
            current[name] = claim(
                name,
                age=age,
                cns=cns,
                scope=scope,
                eligible=eligible,
                holds=f"cert_{name}" if holds else None,
                attempt=attempt,
            )
            current[name] = replace(current[name], is_here=here, attempts_here=here)
            claims.put(key_of(name), current[name])
        elif what == "drop":
            current.pop(name, None)
            reserved.discard(name)
            claims.put(key_of(name), None)
        elif what == "reserve" and name in current:
            reserved.add(name)
            claims.reserve(key_of(name))
        elif what == "release":
            reserved.discard(name)
            claims.release(key_of(name))
    for name, one in current.items():
        group = {other: each for other, each in current.items() if each.group == one.group}
        here = {other: each for other, each in group.items() if key_of(other).namespace == key_of(name).namespace}
        holding = {other: each for other, each in group.items() if each.is_here and each.has_certificate(NOW)}
        attempting = {
            other: each
            for other, each in here.items()
            if (each.attempts_here and each.attempts(one.group.cns, 0.0, 3600.0)) or other in reserved
        }
        may = {other: each for other, each in here.items() if each.eligible}
        line = (
            sorted(holding, key=lambda other: current[other].rank)
            or sorted(attempting, key=lambda other: current[other].rank)
            or sorted(may, key=lambda other: current[other].seniority)
        )
        first = key_of(line[0]) if line else None
        assert claims.owner(key_of(name), NOW) == first
        assert first is None or first in claims.owners(one.group, NOW)
        assert all(claims.owner(other, NOW) == other for other in claims.owners(one.group, NOW))
    for name in current:
        claims.put(key_of(name), None)
    assert not any(vars_of(claims)), "nothing is left behind"


def vars_of(claims: Claims) -> list[Any]:
    return [found for found in vars(claims).values() if isinstance(found, dict | Index)]


def test_finding_an_owner_does_not_look_at_all_resources() -> None:
    class Counting(dict[Key, Claim]):
        reads = 0

        def __getitem__(self, key: Key) -> Claim:
            Counting.reads += 1
            return super().__getitem__(key)

    def reads(number: int) -> int:
        claims = Claims(lambda: 0.0)
        claims._claims = Counting()
        for index in range(number):
            claims.put(key_of(f"r{index}"), claim(f"r{index}", age=index + 1))
            claims.put(key_of(f"o{index}"), claim(f"o{index}", cns=frozenset({f"{index}.com"}), holds=f"cert_{index}"))
        Counting.reads = 0
        claims.ownership(key_of("r0"), NOW)
        claims.owners(claim("r0").group, NOW)
        claims.next_elsewhere(claim("r0").group, NOW)
        return Counting.reads

    assert reads(200) == reads(10)
    assert timedelta() < HOUR


def test_who_waits_for_other_names_by_now_has_not_waited_for_these() -> None:
    ticks = [0.0]
    other = Key("other", "x", "uid-x")
    claims = claims_of(monotonic=lambda: ticks[0], mine=claim("mine", cns=B))

    def attempt(cns: frozenset[str]) -> None:
        claims.put(other, Claim(Group(cns, SLUG, None), Seniority("2020", "x", other), True, None, None, ticks[0], cns))

    attempt(B)
    assert claims.ownership(key_of("mine"), NOW).attempting == "other/x"
    ticks[0] = 180.0
    claims.put(key_of("mine"), claim("mine"))
    attempt(A)
    assert claims.ownership(key_of("mine"), NOW).attempting == "other/x"
    assert claims.next_in_line(A) == [key_of("mine")]
    assert claims.next_in_line(B) == []


def test_when_an_attempt_is_over_who_has_waited_longest_is_next_in_each_namespace() -> None:
    claims = claims_of(attempting=claim("attempting", scope=SLUG, attempt=NOW))
    keys = [Key("one", "a", "uid-a"), Key("one", "b", "uid-b"), Key("two", "c", "uid-c")]
    for key in keys:
        claims.put(key, Claim(Group(A, PERSONAL, key.name), Seniority("2026", key.uid, key), True, None, None, None))
        assert claims.ownership(key, NOW).attempting == "web/attempting"
    assert claims.attempt_of(key_of("attempting")) == A
    assert claims.next_in_line(A) == [keys[0], keys[2]]
    claims.reserve(keys[0])
    assert claims.next_in_line(A) == [keys[1], keys[2]]
    claims.put(keys[1], None)
    assert claims.next_in_line(A) == [keys[2]]
    assert claims.attempt_of(keys[2]) is None
    assert claims.attempt_of(key_of("unknown")) is None


def test_of_two_holders_the_one_for_exactly_the_names_is_the_owner() -> None:
    """Whoever changes spec.cns to what another one holds takes nothing away."""
    more = frozenset({*A, "more.example.com"})
    claims = claims_of(
        old=claim("old", age=5, holds="cert_old", holds_cns=more), young=claim("young", holds="cert_young")
    )
    assert owner(claims, "old") == "web/young"
    assert owner(claims, "young") is None
    claims.put(key_of("old"), claim("old", age=5, holds="cert_old"))
    assert owner(claims, "young") == "web/old"


def test_a_reservation_is_as_old_as_it_is() -> None:
    ticks = [3000.0]
    claims = claims_of(monotonic=lambda: ticks[0], old=claim("old", age=2), young=claim("young"))
    claims.reserve(key_of("young"))
    assert owner(claims, "old") == "web/young"


def test_who_has_no_certificate_makes_nobody_record_anything() -> None:
    claims = claims_of(a=claim("a", holds="cert_a"), b=claim("b"))
    assert claims.unaware(key_of("b")) == []
    assert claims.unaware(key_of("unknown")) == []


def test_who_is_being_deleted_records_nothing() -> None:
    claims = claims_of(a=claim("a", holds="cert_a"), b=replace(claim("b", holds="cert_b"), deleting=True))
    assert claims.unaware(key_of("a")) == []
    assert not shared(claims, "b")
    assert shared(claims, "a")


# --- certificates with the same names ---------------------------------------------------------------------------------


def shared(claims: Claims, name: str) -> bool:
    return claims.ownership(key_of(name), NOW).shared


def test_two_that_hold_certificates_with_the_same_names_share_them() -> None:
    claims = claims_of(a=claim("a", holds="cert_a"), b=claim("b", holds="cert_b"))
    assert shared(claims, "a")
    assert shared(claims, "b")
    assert claims.unaware(key_of("a")) == [key_of("b")]


@pytest.mark.parametrize(
    "other",
    [
        claim("b"),
        claim("b", holds="cert_a"),
        claim("b", holds="cert_b", holds_cns=frozenset({"a.example.com", "more.example.com"})),
        claim("b", holds="cert_b", scope=OTHER_TEAM),
        claim("b", attempt=NOW),
    ],
    ids=["holds none", "the same certificate", "more names", "another team", "an attempt"],
)
def test_what_another_one_has_is_not_shared(other: Claim) -> None:
    claims = claims_of(a=claim("a", holds="cert_a"), b=other)
    assert not shared(claims, "a")
    assert claims.unaware(key_of("a")) == []


def test_the_names_of_the_certificates_count_whatever_names_are_wanted() -> None:
    more = frozenset({"a.example.com", "more.example.com"})
    claims = claims_of(
        a=claim("a", holds="cert_a", holds_cns=more),
        b=claim("b", cns=frozenset({"b.example.com"}), holds="cert_b", holds_cns=more),
    )
    assert shared(claims, "a")
    assert shared(claims, "b")


def test_what_is_recorded_is_not_recorded_again() -> None:
    claims = claims_of(a=claim("a", holds="cert_a", shares=True), b=claim("b", holds="cert_b"))
    assert not shared(claims, "a")
    assert shared(claims, "b")
    assert claims.unaware(key_of("b")) == []


def test_a_certificate_that_is_no_longer_held_is_shared_with_nobody() -> None:
    claims = claims_of(a=claim("a", holds="cert_a"), b=claim("b", holds="cert_b"))
    claims.put(key_of("b"), None)
    assert not shared(claims, "a")
    assert claims.certificate_of(key_of("a")) is not None
    assert claims.certificate_of(key_of("b")) is None


def test_a_resource_of_the_same_namespace_whose_attempt_was_made_in_another_scope_is_waited_for_one_turn() -> None:
    ticks = [0.0]
    claims = claims_of(
        monotonic=lambda: ticks[0], other=replace(claim("other", attempt=NOW), attempts_here=False), mine=claim("mine")
    )
    assert claims.ownership(key_of("mine"), NOW).attempting == "web/other"
    ticks[0] = 180.0
    assert claims.ownership(key_of("mine"), NOW).attempting is None


def test_a_certificate_of_another_scope_shares_no_names() -> None:
    there = replace(claim("there", holds="cert_1"), is_here=False)
    claims = claims_of(there=there, mine=claim("mine", holds="cert_2"))
    assert not claims.ownership(key_of("mine"), NOW).shared
    assert not claims.ownership(key_of("there"), NOW).shared
    assert claims.unaware(key_of("there")) == []


@pytest.mark.parametrize(
    ("began", "at", "waits"), [(0, 179, True), (0, 180, False), (180, 181, True), (180, 360, False)]
)
def test_attempts_of_others_that_begin_when_a_turn_is_over_are_waited_for_one_turn_more(
    began: int, at: int, waits: bool
) -> None:
    ticks = [0.0]
    first, second = (Key("other", name, f"uid-{name}") for name in ("a", "b"))
    claims = claims_of(monotonic=lambda: ticks[0], mine=claim("mine"))

    def attempt(key: Key, seen: float) -> Claim:
        return Claim(Group(A, SLUG, None), Seniority("2020", key.uid, key), True, None, None, seen, A)

    claims.put(first, attempt(first, 0.0))
    assert claims.ownership(key_of("mine"), NOW).attempting == "other/a"
    ticks[0] = float(began)
    claims.put(second, attempt(second, began))
    ticks[0] = float(at)
    assert (claims.ownership(key_of("mine"), NOW).attempting is not None) is waits
