"""What the operator says when it starts."""

import pytest
from pydantic import SecretStr

from vercel_certificate_operator.app import who_may_use_the_default_token
from vercel_certificate_operator.settings import Settings

TOKEN = SecretStr("test-token-not-a-secret")


@pytest.mark.parametrize(
    ("namespaces", "words"),
    [
        (("*",), "all namespaces may use the default token"),
        (("web", "shop"), "only these namespaces may use the default token: web, shop"),
        (("*", "web"), "all namespaces may use the default token, and these may adopt with it: web"),
    ],
)
def test_it_says_who_may_use_the_default_token(namespaces: tuple[str, ...], words: str) -> None:
    settings = Settings(vercel_token=TOKEN, default_token_namespaces=namespaces)
    assert who_may_use_the_default_token(settings) == words


def test_it_says_that_there_is_no_default_token() -> None:
    words = "there is no default token: only resources with spec.tokenSecretRef get certificates"
    assert who_may_use_the_default_token(Settings()) == words
    assert who_may_use_the_default_token(Settings(default_token_namespaces=("web",))) == words
