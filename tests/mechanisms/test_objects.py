"""The newest state of every resource: whatever comes late, twice or out of order."""

from datetime import UTC, datetime
from typing import Any

import pytest

from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.resource import FINALIZER, Key
from vercel_certificate_operator.core.selector import Selector
from vercel_certificate_operator.core.sightings import ScopeKey
from vercel_certificate_operator.objects import LIST_LIMIT, MOST_BEING_REMOVED, Objects, key_of


def body(version: int = 1, *, name: str = "example-com", uid: str = "uid-1", **parts: Any) -> dict[str, Any]:
    """An object as the API server sends it."""
    metadata = {
        "namespace": "web",
        "name": name,
        "uid": uid,
        "resourceVersion": str(version),
        "generation": 1,
        "creationTimestamp": parts.pop("created", "2026-01-01T12:00:00Z"),
        **parts.pop("metadata", {}),
    }
    return {
        "apiVersion": "vercel-operator.io/v1",
        "kind": "VercelCertificate",
        "metadata": metadata,
        "spec": {"cns": parts.pop("cns", ["example.com"])},
        **({"status": parts} if parts else {}),
    }


KEY = Key("web", "example-com", "uid-1")
OTHER = Key("web", "other", "uid-2")


@pytest.fixture
def objects() -> Objects:
    return Objects()


def test_the_newest_resource_version_wins(objects: Objects) -> None:
    assert objects.put(body(9))
    assert not objects.put(body(8, id="cert_old")), "older"
    assert not objects.put(body(9, id="cert_echo")), "the echo of our own write"
    assert objects.put(body(10, id="cert_1")), "compared as numbers, not as texts"
    resource = objects.get(KEY)
    assert resource is not None
    assert (resource.resource_version, resource.status.id) == ("10", "cert_1")


def test_what_is_gone_is_gone(objects: Objects) -> None:
    objects.put(body(5, id="cert_1"))
    assert KEY in objects
    assert objects.drop(KEY)
    assert not objects.drop(KEY)
    assert KEY not in objects
    assert objects.get(KEY) is None
    assert len(objects) == 0
    assert "cert_1" not in objects.held_elsewhere(OTHER)


@pytest.mark.parametrize("version", [4, 5])
def test_an_answer_that_comes_after_the_deletion_brings_nothing_back(objects: Objects, version: int) -> None:
    objects.put(body(5, id="cert_1"))
    objects.drop(KEY)
    assert not objects.put(body(version, id="cert_1"))
    assert KEY not in objects
    assert "cert_1" not in objects.held_elsewhere(OTHER)


def test_an_object_that_leaves_the_selection_may_come_back(objects: Objects) -> None:
    """With a label selector, a watch says DELETED when the labels stop to match, and ADDED when they match again."""
    objects.put(body(5))
    objects.drop(KEY)
    assert objects.put(body(12, id="cert_1"))
    assert KEY in objects


def test_a_namesake_is_another_object(objects: Objects) -> None:
    objects.put(body(5, id="cert_1"))
    objects.drop(KEY)
    assert objects.put(body(7, uid="uid-3"))
    assert objects.keys() == (Key("web", "example-com", "uid-3"),)
    assert key_of(body(uid="uid-3")) == Key("web", "example-com", "uid-3")


def test_ids_in_the_statuses_of_others_are_known(objects: Objects) -> None:
    objects.put(body(1, id="cert_1", superseded=[{"id": "cert_0"}]))
    objects.put(body(2, name="other", uid="uid-2", id="cert_2"))
    mine, theirs = objects.held_elsewhere(KEY), objects.held_elsewhere(OTHER)
    assert "cert_2" in mine
    assert "cert_1" not in mine
    assert "cert_0" not in mine
    assert "cert_1" in theirs
    assert "cert_0" in theirs
    assert "cert_9" not in mine
    assert None not in mine


def test_ids_held_by_two_are_others_for_both(objects: Objects) -> None:
    objects.put(body(1, id="cert_1"))
    objects.put(body(2, name="other", uid="uid-2", superseded=[{"id": "cert_1"}]))
    assert "cert_1" in objects.held_elsewhere(KEY)
    assert "cert_1" in objects.held_elsewhere(OTHER)
    objects.drop(OTHER)
    assert "cert_1" not in objects.held_elsewhere(KEY)


def test_ids_that_leave_a_status_are_free(objects: Objects) -> None:
    objects.put(body(1, id="cert_1", superseded=[{"id": "cert_0"}]))
    theirs = objects.held_elsewhere(OTHER)
    objects.put(body(2, id="cert_1"))
    assert "cert_0" not in theirs
    assert "cert_1" in theirs
    objects.put(body(3))
    assert "cert_1" not in theirs
    assert objects.put(body(4, id="cert_1"))
    assert "cert_1" in theirs, "the container is of the present, not of the time at which it was asked for"


def test_ids_that_are_being_written_to_a_status_are_taken_already(objects: Objects) -> None:
    objects.put(body(1, id="cert_0"))
    theirs = objects.held_elsewhere(OTHER)
    with objects.reserved(KEY, ["cert_1", "cert_2", "cert_0"]):
        assert "cert_1" in theirs
        assert "cert_1" not in objects.held_elsewhere(KEY)
        objects.put(body(2, id="cert_1", superseded=[{"id": "cert_0"}]))
    assert "cert_0" in theirs
    assert "cert_1" in theirs
    assert "cert_2" not in theirs, "it was not written after all"


def test_a_certificate_that_is_being_removed_is_taken_and_stays_so_for_a_while(objects: Objects) -> None:
    """Its resource is gone. A namesake may have read it a moment before."""
    objects.reserve_removal(KEY, "cert_0")
    assert "cert_0" in objects.held_elsewhere(OTHER)
    assert "cert_0" not in objects.held_elsewhere(KEY)
    for number in range(MOST_BEING_REMOVED):
        assert "cert_0" in objects.held_elsewhere(OTHER)
        objects.reserve_removal(KEY, f"cert_{number + 1}")
    assert "cert_0" not in objects.held_elsewhere(OTHER), "memory is bounded"
    assert "cert_1" in objects.held_elsewhere(OTHER)


def test_an_id_that_moves_from_superseded_to_current_stays_held(objects: Objects) -> None:
    objects.put(body(1, id="cert_1", superseded=[{"id": "cert_0"}]))
    objects.put(body(2, id="cert_0", superseded=[{"id": "cert_1"}]))
    assert "cert_0" in objects.held_elsewhere(OTHER)
    assert "cert_1" in objects.held_elsewhere(OTHER)


def test_an_object_of_an_older_version_in_a_complete_list_is_true() -> None:
    """etcd was restored from a backup: resourceVersions are lower than before."""
    seconds = [0.0]
    objects = Objects(monotonic=lambda: seconds[0])
    objects.put(body(900, id="cert_2"))
    objects.put(body(901, name="gone", uid="uid-2"))
    objects.drop(Key("web", "gone", "uid-2"))
    seconds[0] += LIST_LIMIT
    assert objects.put_listed(body(50, id="cert_1"))
    assert objects.put_listed(body(40, name="gone", uid="uid-2", id="cert_3"))
    assert not objects.put_listed(body(50, id="cert_1")), "the same as before"
    resource = objects.get(KEY)
    assert resource is not None
    assert (resource.resource_version, resource.status.id) == ("50", "cert_1")
    assert "cert_2" not in objects.held_elsewhere(OTHER)
    assert Key("web", "gone", "uid-2") in objects
    assert objects.put(body(51)), "newer than what was restored"


def test_a_list_that_began_before_our_own_write_does_not_undo_it(objects: Objects) -> None:
    objects.put(body(900, id="cert_2"))
    objects.drop(OTHER, body(901, name="other", uid="uid-2"))
    assert not objects.put_listed(body(899)), "read before the write"
    assert not objects.put_listed(body(890, name="other", uid="uid-2")), "read before it was deleted"
    assert objects.put_listed(body(902)), "newer"


def test_an_object_that_stops_matching_the_selector_counts_as_gone() -> None:
    """The reply to a write shows new labels before the watch does."""
    objects = Objects(Selector.parse("shard=a"))
    objects.put(body(1, id="cert_1", metadata={"labels": {"shard": "a"}}))
    assert KEY in objects
    assert objects.put(body(2, id="cert_1", metadata={"labels": {"shard": "b"}}))
    assert KEY not in objects
    assert "cert_1" not in objects.held_elsewhere(OTHER)
    assert not objects.put(body(3, id="cert_1", metadata={"labels": {"shard": "b"}}))


# --- who else removes a certificate -----------------------------------------------------------------------------------


def holder(**parts: Any) -> dict[str, Any]:
    """The other holder of cert_1, which is being deleted and removes it, unless ``parts`` say otherwise."""
    metadata = {
        "deletionTimestamp": "2026-01-01T13:00:00Z",
        "finalizers": [FINALIZER],
        **parts.pop("metadata", {}),
    }
    made = body(2, name="other", uid="uid-2", metadata=metadata, **{"id": "cert_1", "origin": "Issued", **parts})
    made["metadata"] = {name: value for name, value in made["metadata"].items() if value}
    return made


@pytest.mark.parametrize("origin", ["Issued", "Adopted"])
def test_of_two_holders_that_are_deleted_together_each_may_remove_the_certificate(
    objects: Objects, origin: str
) -> None:
    """Otherwise each would leave it to the other."""
    objects.put(body(1, id="cert_1"))
    objects.put(holder(origin=origin))
    assert "cert_1" in objects.held_elsewhere(KEY)
    assert "cert_1" not in objects.not_removable(KEY)


@pytest.mark.parametrize(
    "other",
    [
        {"metadata": {"deletionTimestamp": None}},
        {"origin": "Found"},
        {"origin": None},
        {"spec": {"suspend": True}},
        {"spec": {"deletionPolicy": "Retain"}},
    ],
    ids=["stays", "found it", "does not say how it got it", "suspended", "retains"],
)
def test_a_certificate_is_not_removable_if_its_other_holder_would_keep_it(
    objects: Objects, other: dict[str, Any]
) -> None:
    spec = other.pop("spec", {})
    objects.put(body(1, id="cert_1"))
    made = holder(**other)
    made["spec"] |= spec
    objects.put(made)
    assert "cert_1" in objects.not_removable(KEY)
    assert "cert_2" not in objects.not_removable(KEY)
    objects.drop(OTHER)
    assert "cert_1" not in objects.not_removable(KEY)


@pytest.mark.parametrize("finalizers", [None, ["foregroundDeletion"]])
def test_a_resource_that_only_the_finalizers_of_others_hold_holds_nothing(
    objects: Objects, finalizers: list[str] | None
) -> None:
    objects.put(body(1, id="cert_1"))
    made = holder()
    made["status"]["attempt"] = {"id": "1", "cns": ["example.com"]}
    objects.put(made)
    scope_key = ScopeKey(None, Scope())
    assert OTHER in objects.members(scope_key)
    made["metadata"] |= {"resourceVersion": "9", "finalizers": finalizers}
    objects.put(made)
    assert OTHER in objects
    assert objects.holders("cert_1") == {KEY}
    assert "cert_1" not in objects.held_elsewhere(KEY)
    assert "cert_1" not in objects.not_removable(KEY)
    assert objects.members(scope_key) == (KEY,)
    assert objects.scope_key(OTHER) is None
    assert not objects.holds_names(OTHER)
    assert frozenset({"example.com"}) not in objects.attempted_elsewhere(KEY)


def test_of_two_resources_with_the_same_open_attempt_the_younger_one_is_a_copy(objects: Objects) -> None:
    attempt = {"id": "1", "cns": ["example.com"]}
    young, old = Key("web", "b", "b"), Key("web", "c", "c")
    put(objects, 1, "b", created="2026-01-02T00:00:00Z", attempt=attempt)
    assert objects.copied_attempt(young) is None
    put(objects, 2, "c", created="2026-01-01T00:00:00Z", attempt=attempt)
    assert (objects.copied_attempt(young), objects.copied_attempt(old)) == ("1", None)
    put(objects, 3, "b", created="2026-01-02T00:00:00Z", attempt=attempt | {"outcome": "Void"})
    assert objects.copied_attempt(young) is None
    put(objects, 4, "b", created="2026-01-02T00:00:00Z", attempt=attempt)
    assert objects.copied_attempt(young) == "1"
    put(objects, 5, "b", created="2026-01-02T00:00:00Z", attempt=attempt | {"id": "2"})
    assert objects.copied_attempt(young) is None
    put(objects, 6, "b", created="2026-01-02T00:00:00Z", attempt=attempt)
    put(objects, 7, "c", created="2026-01-01T00:00:00Z", attempt=attempt | {"outcome": "Lost"})
    assert objects.copied_attempt(young) is None
    put(objects, 8, "c", created="2026-01-01T00:00:00Z", attempt=attempt | {"id": "3"})
    put(objects, 9, "c", created="2026-01-01T00:00:00Z", attempt=attempt)
    assert objects.copied_attempt(young) == "1"
    objects.drop(old)
    assert objects.copied_attempt(young) is None


def test_a_resource_that_is_released_resolves_no_attempt(objects: Objects) -> None:
    attempt = {"id": "1", "cns": ["example.com"]}
    put(objects, 1, "b", created="2026-01-02T00:00:00Z", attempt=attempt)
    old = body(2, name="c", uid="c", created="2026-01-01T00:00:00Z", attempt=attempt)
    old["metadata"] |= {"deletionTimestamp": "2026-01-03T00:00:00Z", "finalizers": ["foregroundDeletion"]}
    objects.put(old)
    assert objects.copied_attempt(Key("web", "b", "b")) is None


# --- who owns names ---------------------------------------------------------------------------------------------------

NOW = datetime(2026, 1, 10, tzinfo=UTC)
HELD = {"cns": ["example.com"], "expiresAt": "2026-04-01T00:00:00Z"}


def certified(version: int, uid: str, certificate_id: str = "cert_1", **parts: Any) -> dict[str, Any]:
    """An object that holds an unexpired certificate for its names."""
    made = body(version, name=uid, uid=uid, id=certificate_id, **parts)
    made["status"] |= HELD
    return made


def owner_for(objects: Objects, uid: str) -> str | None:
    """Who owns the names of this resource, as it sees it; None: itself."""
    return objects.ownership(Key("web", uid, uid), NOW).owner


def put(
    objects: Objects, version: int, uid: str, *, team: str | None = None, ref: str | None = None, **parts: Any
) -> None:
    made = body(version, name=uid, uid=uid, **parts)
    made["spec"] |= {"team": {"id": team}} if team else {}
    made["spec"] |= {"tokenSecretRef": {"name": ref}} if ref else {}
    objects.put(made)


def test_the_owner_of_names_is_the_oldest_then_the_lowest_uid(objects: Objects) -> None:
    young, old = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
    put(objects, 1, "b", created=old, cns=["Example.com", "*.example.com"])
    put(objects, 2, "c", created=young, cns=["*.example.com", "example.com"])
    put(objects, 3, "a", created=old, cns=["*.EXAMPLE.com", "example.com."])
    put(objects, 4, "x", created=old, cns=["example.com"])
    assert [owner_for(objects, uid) for uid in "abcx"] == [None, "web/a", "web/a", None]
    objects.drop(Key("web", "a", "a"))
    assert [owner_for(objects, uid) for uid in "bc"] == [None, "web/b"]
    put(objects, 5, "b", created=old, cns=["other.com"])
    assert owner_for(objects, "c") is None


def test_a_younger_resource_that_holds_a_certificate_for_the_names_owns_them(objects: Objects) -> None:
    put(objects, 1, "a")
    objects.put(certified(2, "b", created="2026-01-02T00:00:00Z"))
    assert owner_for(objects, "a") == "web/b"
    assert owner_for(objects, "b") is None


@pytest.mark.parametrize(
    "lacks",
    [{"expiresAt": "2026-01-09T00:00:00Z"}, {"cns": ["www.example.com"]}, {"id": None}],
    ids=["expired", "other names", "none"],
)
def test_a_certificate_that_can_not_be_used_for_the_names_owns_nothing(objects: Objects, lacks: dict[str, Any]) -> None:
    put(objects, 1, "a")
    younger = certified(2, "b", created="2026-01-02T00:00:00Z")
    younger["status"] |= lacks
    objects.put(younger)
    assert owner_for(objects, "a") is None
    assert owner_for(objects, "b") == "web/a"


@pytest.mark.parametrize("start", ["2026-01-09T23:30:00Z", "2025-01-09T23:30:00Z", "0001-01-01T00:00:00Z", "odd"])
def test_an_open_attempt_owns_the_names_for_an_hour_since_it_was_seen_whatever_time_it_records(start: str) -> None:
    """It may have been recorded while a clock was wrong."""
    seconds = [50.0]
    objects = Objects(monotonic=lambda: seconds[0])
    put(objects, 1, "a")
    attempt = {"id": "1", "start": start}
    put(objects, 2, "b", created="2026-01-02T00:00:00Z", attempt=attempt)
    assert owner_for(objects, "a") == "web/b"
    seconds[0] += 3599.0
    put(objects, 3, "b", created="2026-01-02T00:00:00Z", attempt=attempt)
    assert owner_for(objects, "a") == "web/b"
    seconds[0] += 1.0
    assert owner_for(objects, "a") is None
    put(objects, 4, "b", created="2026-01-02T00:00:00Z", attempt=attempt | {"id": "2"})
    assert owner_for(objects, "a") == "web/b", "the next attempt has an hour of its own"
    put(objects, 5, "b", created="2026-01-02T00:00:00Z", attempt=attempt | {"outcome": "Lost"})
    assert owner_for(objects, "a") is None


@pytest.mark.parametrize(
    "stands_back",
    [{"spec": {"suspend": True}}, {"metadata": {"deletionTimestamp": "2026-01-03T00:00:00Z", "finalizers": ["x/y"]}}],
    ids=["suspended", "being deleted"],
)
def test_a_resource_that_issues_nothing_and_holds_nothing_is_in_nobodys_way(
    objects: Objects, stands_back: dict[str, Any]
) -> None:
    older = body(1, name="a", uid="a", metadata=stands_back.get("metadata", {}))
    older["spec"] |= stands_back.get("spec", {})
    objects.put(older)
    put(objects, 2, "b", created="2026-01-02T00:00:00Z")
    assert owner_for(objects, "b") is None


def test_a_resource_that_another_finalizer_holds_owns_nothing(objects: Objects) -> None:
    """It was deleted, its certificate is removed, and our finalizer is off."""
    gone = {"deletionTimestamp": "2026-01-03T00:00:00Z", "finalizers": ["example.com/other"]}
    objects.put(certified(1, "a", metadata=gone))
    put(objects, 2, "b", created="2026-01-02T00:00:00Z")
    assert owner_for(objects, "b") is None
    objects.put(certified(3, "a", metadata=gone | {"finalizers": [FINALIZER]}))
    assert owner_for(objects, "b") == "web/a", "as long as ours is on, the certificate is there"


def test_a_reservation_owns_names_before_it_is_written(objects: Objects) -> None:
    put(objects, 1, "a")
    put(objects, 2, "b", created="2026-01-02T00:00:00Z")
    objects.reserve_names(Key("web", "b", "b"))
    assert owner_for(objects, "a") == "web/b"
    objects.release_names(Key("web", "b", "b"))
    assert owner_for(objects, "a") is None


def test_resources_of_two_teams_don_t_share_names(objects: Objects) -> None:
    put(objects, 1, "a", team="team_a")
    put(objects, 2, "b", team="team_b", created="2026-01-02T00:00:00Z")
    put(objects, 3, "c", team="team_b", created="2026-01-03T00:00:00Z")
    assert [owner_for(objects, uid) for uid in "abc"] == [None, None, "web/b"]


def test_where_two_tokens_may_be_of_one_account_attempts_take_turns(objects: Objects) -> None:
    """Nobody can tell: so no Secret is read, and a list of Vercel decides."""
    put(objects, 1, "a", ref="one", attempt={"id": "1", "start": "2026-01-09T23:59:00Z"})
    put(objects, 2, "b", ref="two", created="2026-01-02T00:00:00Z")
    ownership = objects.ownership(Key("web", "b", "b"), NOW)
    assert (ownership.owner, ownership.attempting) == (None, "web/a")
    held = certified(3, "a")
    held["spec"] |= {"tokenSecretRef": {"name": "one"}}
    objects.put(held)
    ownership = objects.ownership(Key("web", "b", "b"), NOW)
    assert (ownership.owner, ownership.attempting, ownership.holders) == (None, None, {"cert_1": "web/a"})


def test_the_resources_of_a_scope_are_those_with_a_certificate_or_an_attempt_there(objects: Objects) -> None:
    put(objects, 1, "a")
    assert objects.members(ScopeKey(None, Scope())) == ()
    put(objects, 2, "a", id="cert_1")
    put(objects, 3, "b", ref="vercel", attempt={"id": "1", "team": "team_a"})
    put(objects, 4, "c", id="cert_2", team="alpha")
    assert set(objects.members(ScopeKey(None, Scope()))) == {Key("web", "a", "a"), Key("web", "c", "c")}
    place = ("web", "vercel", "token")
    assert objects.members(ScopeKey(place, Scope(team_id="team_a"))) == (Key("web", "b", "b"),)
    objects.drop(Key("web", "b", "b"))
    assert objects.members(ScopeKey(place, Scope(team_id="team_a"))) == ()


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_nothing_is_kept_that_nobody_reads(objects: Objects) -> None:
    last_applied = "kubectl.kubernetes.io/last-applied-configuration"
    metadata = {
        "managedFields": [{"manager": "kubectl"}],
        "labels": {"a": "b"},
        "annotations": {
            last_applied: "x" * 1000,
            "vercel-operator.io/renew": "1",
            "vercel-operator.io/attempt": "of an older version of the operator",
        },
        "finalizers": ["vercel-operator.io/certificate"],
        "deletionTimestamp": "2026-01-01T13:00:00Z",
    }
    sent = body(metadata=metadata)
    objects.put(sent)
    ((_, kept),) = objects.bodies()
    assert "managedFields" not in kept["metadata"]
    assert kept["metadata"]["annotations"] == {"vercel-operator.io/renew": "1"}
    assert sent["metadata"]["annotations"][last_applied], "what was sent is not changed"
    resource = objects.get(KEY)
    assert resource is not None
    assert (resource.deleting, resource.has_finalizer, resource.renew_request) == (True, True, "1")


def test_an_object_without_status_or_annotations_is_read(objects: Objects) -> None:
    objects.put({"metadata": body()["metadata"] | {"annotations": None}, "spec": None, "status": None})
    resource = objects.get(KEY)
    assert resource is not None
    assert (resource.status.id, resource.status.attempt, resource.deleting) == (None, None, False)
    assert not resource.has_finalizer


def test_a_condition_of_another_writer_is_kept(objects: Objects) -> None:
    theirs = {
        "type": "example.org/Audited",
        "status": "True",
        "reason": "Done",
        "message": "Fine.",
        "lastTransitionTime": "2026-01-01T12:00:00Z",
    }
    objects.put(body(conditions=[theirs]))
    resource = objects.get(KEY)
    assert resource is not None
    assert resource.status.dump()["conditions"] == [theirs]
