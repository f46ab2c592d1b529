"""The API server accepts good specs, and rejects bad ones with a sentence that says what to do."""

from typing import Any, NamedTuple

import pytest

from crd.kubectl import Kubectl

LABEL_63 = "a" * 63
NAME_253 = ".".join([LABEL_63, LABEL_63, LABEL_63, "b" * 57, "com"])
ASCII_HINT = "has non-ASCII characters: write the name in its ASCII form"
WILDCARD_HINT = "* can only be the whole first label, before a name of at least two labels, as in *.example.com"
LABELS_HINT = "is not a DNS name: each label has 1 to 63 characters"
ALONE_HINT = "must be only a DNS name, without scheme, port or path, as in example.com"
DURATION_HINT = (
    "must be a duration of whole hours, minutes and seconds in this order, more than 0 and at most 8760h, "
    "as in 720h, 1h30m or 90s"
)
ONE_OF_HINT = "must have exactly one of the two: id (team_...) or slug"
SECRET_NAME_HINT = "must be the name of a Secret in this namespace: a to z, 0 to 9, - and . only"


class Refusal(NamedTuple):
    """A spec, and what the user reads."""

    spec: Any
    field: str
    words: str


def with_cns(*names: Any) -> dict[str, Any]:
    return {"cns": list(names)}


def with_fields(**fields: Any) -> dict[str, Any]:
    return {"cns": ["example.com"], **fields}


ACCEPTED = {
    "one name": with_cns("example.com"),
    "a wildcard and its root": with_cns("example.com", "*.example.com"),
    "a wildcard below a subdomain": with_cns("*.a.b.example.com"),
    "digits and hyphens": with_cns("0.a-1.1-800.example.com"),
    "punycode": with_cns("xn--bcher-kva.example", "example.xn--p1ai"),
    "a label of 63 characters": with_cns(f"{LABEL_63}.com"),
    "a name of 253 characters": with_cns(NAME_253),
    "100 names": with_cns(*(f"a{i}.example.com" for i in range(100))),
    "100 names of 253 characters": with_cns(*(NAME_253[:-6] + f"{i:02}.com" for i in range(100))),
    "a team by id": with_fields(team={"id": "team_abc123"}),
    "a team by slug": with_fields(team={"slug": "my-team"}),
    "a Secret": with_fields(tokenSecretRef={"name": "vercel.token-1", "key": "VERCEL_TOKEN"}),
    "hours": with_fields(renewBefore="720h"),
    "hours and minutes": with_fields(renewBefore="1h30m"),
    "seconds": with_fields(renewBefore="90s"),
    "more minutes than an hour has": with_fields(renewBefore="90m"),
    "a duration as Go prints it": with_fields(renewBefore="720h0m0s"),
    "a year": with_fields(renewBefore="8760h"),
    "Retain": with_fields(deletionPolicy="Retain"),
    "suspended": with_fields(suspend=True),
    "a TLS Secret": with_fields(certificateSecretRef={"name": "www.tls-1"}),
    "reuse": with_fields(existingCertificate="Reuse"),
    "adopt": with_fields(existingCertificate="Adopt"),
    "ignore": with_fields(existingCertificate="Ignore"),
}

REFUSED = {
    # cns as a whole
    "no spec": Refusal(None, "spec", "Required value"),
    "no cns": Refusal({}, "spec.cns", "Required value"),
    "no names": Refusal(with_cns(), "spec.cns", "at least 1 item"),
    "101 names": Refusal(
        with_cns(*(f"a{i}.example.com" for i in range(101))), "spec.cns", "Too many: 101: must have at most 100 items"
    ),
    "a name twice": Refusal(
        with_cns("example.org", "example.com", "www.example.com", "example.com"),
        "spec.cns",
        'lists "example.com" more than once: remove the repetition',
    ),
    "100 names of 253 characters, the last two the same": Refusal(
        with_cns(*(NAME_253[:-6] + f"{i:02}.com" for i in range(99)), NAME_253[:-6] + "98.com"),
        "spec.cns",
        '98.com" more than once: remove the repetition',
    ),
    "a name in place of a list": Refusal({"cns": "example.com"}, "spec.cns", "must be of type array"),
    "a number for a name": Refusal(with_cns(1), "spec.cns[0]", "must be of type string"),
    # each name
    "an empty name": Refusal(with_cns("example.com", ""), "spec.cns[1]", '"" is empty: write a DNS name'),
    "upper case": Refusal(
        with_cns("WWW.Example.com"), "spec.cns[0]", '"WWW.Example.com" has upper-case letters: write "www.example.com"'
    ),
    "a trailing dot": Refusal(
        with_cns("example.com."), "spec.cns[0]", '"example.com." ends with a dot: remove that dot'
    ),
    "upper case with a trailing dot": Refusal(with_cns("Example.com."), "spec.cns[0]", "ends with a dot"),
    "one label": Refusal(with_cns("localhost"), "spec.cns[0]", '"localhost" has only one label: write the whole name'),
    "an internationalized name": Refusal(with_cns("bücher.example"), "spec.cns[0]", f'"bücher.example" {ASCII_HINT}'),
    "a URL": Refusal(with_cns("https://example.com/"), "spec.cns[0]", f'"https://example.com/" {ALONE_HINT}'),
    "a port": Refusal(with_cns("example.com:443"), "spec.cns[0]", ALONE_HINT),
    "an IPv4 address": Refusal(with_cns("192.0.2.1"), "spec.cns[0]", '"192.0.2.1" is an IP address: only DNS names'),
    "an IPv6 address": Refusal(with_cns("2001:db8::1"), "spec.cns[0]", ALONE_HINT),
    "a wildcard in the middle": Refusal(with_cns("a.*.example.com"), "spec.cns[0]", WILDCARD_HINT),
    "a wildcard as part of a label": Refusal(with_cns("a*.example.com"), "spec.cns[0]", WILDCARD_HINT),
    "a wildcard twice": Refusal(with_cns("*.*.example.com"), "spec.cns[0]", WILDCARD_HINT),
    "a wildcard for all of a top-level domain": Refusal(with_cns("*.com"), "spec.cns[0]", WILDCARD_HINT),
    "a wildcard alone": Refusal(with_cns("*"), "spec.cns[0]", WILDCARD_HINT),
    "an empty label": Refusal(with_cns("a..example.com"), "spec.cns[0]", f'"a..example.com" {LABELS_HINT}'),
    "a leading dot": Refusal(with_cns(".example.com"), "spec.cns[0]", LABELS_HINT),
    "a leading hyphen": Refusal(with_cns("-a.example.com"), "spec.cns[0]", LABELS_HINT),
    "a trailing hyphen": Refusal(with_cns("a-.example.com"), "spec.cns[0]", LABELS_HINT),
    "upper case and an underscore": Refusal(with_cns("_ACME.example.com"), "spec.cns[0]", LABELS_HINT),
    "an underscore": Refusal(with_cns("_acme.example.com"), "spec.cns[0]", LABELS_HINT),
    "a space": Refusal(with_cns("example.com www.example.com"), "spec.cns[0]", LABELS_HINT),
    "a newline at the end": Refusal(with_cns("example.com\n"), "spec.cns[0]", "must be a DNS name in lower case"),
    "a label of 64 characters": Refusal(with_cns(f"{LABEL_63}a.com"), "spec.cns[0]", LABELS_HINT),
    "a name of 254 characters": Refusal(with_cns(f"{NAME_253}m"), "spec.cns[0]", "Too long: may not be"),
    # team
    "an empty team": Refusal(with_fields(team={}), "spec.team", ONE_OF_HINT),
    "both id and slug": Refusal(with_fields(team={"id": "team_abc", "slug": "my-team"}), "spec.team", ONE_OF_HINT),
    "a slug as the id": Refusal(
        with_fields(team={"id": "my-team"}), "spec.team.id", 'must be a team\'s id, which begins with "team_"'
    ),
    "an id as the slug": Refusal(with_fields(team={"slug": "team_abc"}), "spec.team.slug", "write it as id instead"),
    "a URL as the slug": Refusal(
        with_fields(team={"slug": "vercel.com/my-team"}), "spec.team.slug", "must be only the team's slug"
    ),
    # tokenSecretRef
    "a Secret without a name": Refusal(
        with_fields(tokenSecretRef={"key": "token"}), "spec.tokenSecretRef.name", "Required"
    ),
    "a Secret with an empty name": Refusal(
        with_fields(tokenSecretRef={"name": ""}), "spec.tokenSecretRef.name", SECRET_NAME_HINT
    ),
    "a Secret of another namespace, by a slash": Refusal(
        with_fields(tokenSecretRef={"name": "other/vercel"}), "spec.tokenSecretRef.name", SECRET_NAME_HINT
    ),
    "a Secret of another namespace, by a field": Refusal(
        with_fields(tokenSecretRef={"name": "vercel", "namespace": "other"}),
        "spec.tokenSecretRef.namespace",
        "unknown field",
    ),
    "an impossible key": Refusal(
        with_fields(tokenSecretRef={"name": "vercel", "key": "a/b"}), "spec.tokenSecretRef.key", "must be a key in"
    ),
    # certificateSecretRef
    "a TLS Secret without a name": Refusal(
        with_fields(certificateSecretRef={}), "spec.certificateSecretRef.name", "Required"
    ),
    "a TLS Secret of another namespace": Refusal(
        with_fields(certificateSecretRef={"name": "other/tls"}), "spec.certificateSecretRef.name", SECRET_NAME_HINT
    ),
    "a TLS Secret and a time of renewal": Refusal(
        with_fields(certificateSecretRef={"name": "tls"}, renewBefore="720h"),
        "spec.renewBefore",
        "renewBefore has no effect together with certificateSecretRef",
    ),
    # renewBefore
    "days": Refusal(
        with_fields(renewBefore="30d"),
        "spec.renewBefore",
        f'"30d" {DURATION_HINT}; there is no unit for days: 30 days are 720h',
    ),
    "a negative duration": Refusal(with_fields(renewBefore="-1h"), "spec.renewBefore", f'"-1h" {DURATION_HINT}'),
    "an empty duration": Refusal(with_fields(renewBefore=""), "spec.renewBefore", f'"" {DURATION_HINT}'),
    "a fraction": Refusal(with_fields(renewBefore="1.5h"), "spec.renewBefore", f'"1.5h" {DURATION_HINT}'),
    "minutes before hours": Refusal(with_fields(renewBefore="30m1h"), "spec.renewBefore", f'"30m1h" {DURATION_HINT}'),
    "milliseconds": Refusal(with_fields(renewBefore="500ms"), "spec.renewBefore", DURATION_HINT),
    "no unit": Refusal(with_fields(renewBefore="720"), "spec.renewBefore", f'"720" {DURATION_HINT}'),
    "a zero duration": Refusal(with_fields(renewBefore="0h0m0s"), "spec.renewBefore", f'"0h0m0s" {DURATION_HINT}'),
    "more than a year": Refusal(with_fields(renewBefore="8760h1s"), "spec.renewBefore", DURATION_HINT),
    "more than an int64 holds": Refusal(with_fields(renewBefore="9" * 25 + "h"), "spec.renewBefore", DURATION_HINT),
    "a number of seconds": Refusal(with_fields(renewBefore=3600), "spec.renewBefore", "must be of type string"),
    # the rest
    "a policy in lower case": Refusal(
        with_fields(deletionPolicy="retain"), "spec.deletionPolicy", 'supported values: "Delete", "Retain"'
    ),
    "something else to do with an existing certificate": Refusal(
        with_fields(existingCertificate="Replace"),
        "spec.existingCertificate",
        'supported values: "Reuse", "Adopt", "Ignore"',
    ),
    "suspend as text": Refusal(with_fields(suspend="yes"), "spec.suspend", "must be of type boolean"),
    "a misspelt field": Refusal(with_fields(renewbefore="720h"), "spec.renewbefore", "unknown field"),
}


@pytest.mark.parametrize("spec", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_good_spec_is_accepted_as_it_was_written(shared_kubectl: Kubectl, spec: dict[str, Any]) -> None:
    stored = shared_kubectl.try_spec(spec)["spec"]

    assert {key: stored[key] for key in spec} == spec


@pytest.mark.parametrize("refusal", REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_spec_is_rejected_with_a_sentence_that_names_the_field(shared_kubectl: Kubectl, refusal: Refusal) -> None:
    read = shared_kubectl.refused_spec(refusal.spec)

    assert refusal.field in read
    assert refusal.words in read
    assert "should match" not in read, "a regular expression is no sentence"
    assert "evaluat" not in read, "a rule that fails to evaluate says nothing to the user"


def test_each_bad_name_is_reported_once_and_good_ones_are_not(shared_kubectl: Kubectl) -> None:
    read = shared_kubectl.refused_spec(with_cns("good.example.com", "Bad.example.com", "192.0.2.1"))

    assert "spec.cns[0]" not in read
    assert read.count("spec.cns[1]") == 1
    assert read.count("spec.cns[2]") == 1


def test_a_missing_field_has_the_documented_default(shared_kubectl: Kubectl) -> None:
    stored = shared_kubectl.try_spec(with_fields(tokenSecretRef={"name": "vercel"}))["spec"]

    assert stored == {
        "cns": ["example.com"],
        "tokenSecretRef": {"name": "vercel"},  # whose key the operator takes to be token
        "deletionPolicy": "Delete",
        "suspend": False,
        "existingCertificate": "Reuse",
    }
