"""Targets of requests: a whole URL means its path and its host, and nothing else."""

from __future__ import annotations

import json
import socket

import pytest
from gateway_support import FakeSettings
from pydantic import SecretStr


def ask(server, target, *headers):
    """Return status and body of a request written by hand."""
    lines = [f"GET {target} HTTP/1.1", *headers, "Connection: close"]
    with socket.create_connection(server.address, timeout=5) as raw:
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b"".join(iter(lambda: raw.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize("host", ["Host: localhost", "Host: evil.example"])
def test_a_url_is_its_path_and_its_host_is_the_host(server, host):
    """As proxies ask; the Host header beside it does not count."""
    at = f"http://localhost:{server.address[1]}"
    assert ask(server, f"{at}/livez", host)[0] == 200
    assert ask(server, at.upper(), host)[0] == 404, "nothing is served at the root"
    status, body = ask(server, f"{at}/api/v1/conversations?limit=none", host)
    assert (status, "limit" in json.loads(body)["detail"]) == (400, True)
    assert ask(server, "http://evil.example/livez", host)[0] == 403
    assert ask(server, "http://user@localhost/livez", host)[0] == 403
    assert ask(server, "http://[evil/livez", host)[0] in (403, 404)


def test_a_url_does_not_get_around_the_token(server):
    server.configure(FakeSettings(api_token=SecretStr("s3cret")))
    assert ask(server, "http://localhost/api/v1/status", "Host: localhost")[0] == 401
    assert ask(server, "http://localhost/livez", "Host: localhost")[0] == 200


@pytest.mark.parametrize("target", ["*", "livez", "ftp://localhost/livez", "http:/livez"])
def test_what_is_neither_path_nor_url_is_found_nowhere(server, target):
    assert ask(server, target, "Host: localhost")[0] in (400, 404)
