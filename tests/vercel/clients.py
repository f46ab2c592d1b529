"""Clients with the limits that they have by default in the operator."""

from typing import Any

from pydantic import SecretStr

from vercel_certificate_operator.vercel import VercelClient

TOKEN = "test-token-not-a-secret"
LIMITS = {"post_timeout": 120.0, "timeout": 30.0, "connections": 8}


def client_of(url: str, token: str = TOKEN, **settings: Any) -> VercelClient:
    return VercelClient(SecretStr(token), base_url=url, **LIMITS | settings)
