"""The newest state of every resource: whatever comes late, twice or out of order."""

from typing import Any

import pytest

from vercel_certificate_operator.core.attempt import ANNOTATION
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.objects import Objects, key_of


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
    assert "cert_1" not in objects.held_by_others(OTHER)


@pytest.mark.parametrize("version", [4, 5])
def test_an_answer_that_comes_after_the_deletion_brings_nothing_back(objects: Objects, version: int) -> None:
    objects.put(body(5, id="cert_1"))
    objects.drop(KEY)
    assert not objects.put(body(version, id="cert_1"))
    assert KEY not in objects
    assert "cert_1" not in objects.held_by_others(OTHER)


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
    objects.put(body(1, id="cert_1", supersededIDs=["cert_0"]))
    objects.put(body(2, name="other", uid="uid-2", id="cert_2"))
    mine, theirs = objects.held_by_others(KEY), objects.held_by_others(OTHER)
    assert "cert_2" in mine
    assert "cert_1" not in mine
    assert "cert_0" not in mine
    assert "cert_1" in theirs
    assert "cert_0" in theirs
    assert "cert_9" not in mine
    assert None not in mine


def test_ids_held_by_two_are_others_for_both(objects: Objects) -> None:
    objects.put(body(1, id="cert_1"))
    objects.put(body(2, name="other", uid="uid-2", supersededIDs=["cert_1"]))
    assert "cert_1" in objects.held_by_others(KEY)
    assert "cert_1" in objects.held_by_others(OTHER)
    objects.drop(OTHER)
    assert "cert_1" not in objects.held_by_others(KEY)


def test_ids_that_leave_a_status_are_free(objects: Objects) -> None:
    objects.put(body(1, id="cert_1", supersededIDs=["cert_0"]))
    theirs = objects.held_by_others(OTHER)
    objects.put(body(2, id="cert_1"))
    assert "cert_0" not in theirs
    assert "cert_1" in theirs
    objects.put(body(3))
    assert "cert_1" not in theirs
    assert objects.put(body(4, id="cert_1"))
    assert "cert_1" in theirs, "the container is of the present, not of the time at which it was asked for"


def test_ids_that_are_being_written_to_a_status_are_taken_already(objects: Objects) -> None:
    objects.put(body(1, id="cert_0"))
    theirs = objects.held_by_others(OTHER)
    with objects.claimed(KEY, ["cert_1", "cert_2", "cert_0"]):
        assert "cert_1" in theirs
        assert "cert_1" not in objects.held_by_others(KEY)
        objects.put(body(2, id="cert_1", supersededIDs=["cert_0"]))
    assert "cert_0" in theirs
    assert "cert_1" in theirs
    assert "cert_2" not in theirs, "it was not written after all"


def test_an_id_that_moves_from_superseded_to_current_stays_held(objects: Objects) -> None:
    objects.put(body(1, id="cert_1", supersededIDs=["cert_0"]))
    objects.put(body(2, id="cert_0", supersededIDs=["cert_1"]))
    assert "cert_0" in objects.held_by_others(OTHER)
    assert "cert_1" in objects.held_by_others(OTHER)


def test_owners_of_the_same_names_are_told_by_age_then_uid(objects: Objects) -> None:
    same = frozenset({"example.com", "*.example.com"})
    young, old = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
    objects.put(body(1, uid="uid-b", created=old, cns=["Example.com", "*.example.com"]))
    objects.put(body(2, uid="uid-c", created=young, cns=["*.example.com", "example.com"]))
    objects.put(body(3, uid="uid-a", created=old, cns=["*.EXAMPLE.com", "example.com"]))
    objects.put(body(4, uid="uid-x", created=old, cns=["example.com"]))
    assert [key.uid for key in objects.with_names(same)] == ["uid-a", "uid-b", "uid-c"]
    objects.drop(Key("web", "example-com", "uid-a"))
    objects.put(body(5, uid="uid-b", created=old, cns=["other.com"]))
    assert [key.uid for key in objects.with_names(same)] == ["uid-c"]
    assert objects.with_names(frozenset({"nobody.com"})) == []


@pytest.mark.parametrize(
    "asked", [{"id": "cert_1"}, {"attempt": "a"}, {"metadata": {"annotations": {ANNOTATION: "{}"}}}]
)
def test_of_the_same_second_the_one_that_has_asked_already_is_the_owner(
    objects: Objects, asked: dict[str, Any]
) -> None:
    """A certificate may be there before a namesake of the same second, with a lower uid, is seen."""
    objects.put(body(1, uid="uid-a"))
    objects.put(body(2, uid="uid-b", **asked))
    assert [key.uid for key in objects.with_names(frozenset({"example.com"}))] == ["uid-b", "uid-a"]


def test_the_names_of_an_object_are_known(objects: Objects) -> None:
    objects.put(body(cns=["Example.COM"]))
    assert objects.names(KEY) == frozenset({"example.com"})
    assert objects.names(OTHER) is None


def test_nothing_is_kept_that_nobody_reads(objects: Objects) -> None:
    last_applied = "kubectl.kubernetes.io/last-applied-configuration"
    metadata = {
        "managedFields": [{"manager": "kubectl"}],
        "labels": {"a": "b"},
        "annotations": {last_applied: "x" * 1000, "vercel-operator.io/renew": "1"},
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
    assert (resource.deleting, resource.ours, resource.renew_request) == (True, True, "1")


def test_an_object_without_status_or_annotations_is_read(objects: Objects) -> None:
    objects.put({"metadata": body()["metadata"] | {"annotations": None}, "spec": None, "status": None})
    resource = objects.get(KEY)
    assert resource is not None
    assert (resource.status.id, resource.deleting, resource.ours, resource.attempt) == (None, False, False, None)


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
