"""Who is served by the HTTP door: our own pages and hosts, and whoever has the token; swept over every route."""

from __future__ import annotations

import pytest
from gateway_support import FakeSettings, problem, routes
from pydantic import SecretStr

from gateway.access import Access

FOREIGN = [
    {"host": "evil.example"},
    {"host": "127.0.0.1.evil.example"},
    {"host": "localhost@evil.example"},
    {"host": "localhost:99999"},
    {"host": ""},
    {"host": "10.1.2.3"},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:3000"},
    {"origin": "file://"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_no_route_serves_another_sites_page_or_another_host(server, http, headers):
    """The sweep is made from the route table, so a new route is covered on the day it is added."""
    swept = list(routes(server))
    assert len(swept) >= 15
    for method, path in [*swept, ("DELETE", "/api/v1/conversations/c1"), ("GET", "/nope"), ("OPTIONS", "/livez")]:
        problem(http.request(method, path, headers=headers), 403, "forbidden")


def test_our_own_pages_and_names_are_served(server, http):
    port = server.address[1]
    for host in ("localhost", f"localhost:{port}", "127.0.0.1", "[::1]:1", "LOCALHOST", "localhost."):
        assert http.get("/livez", headers={"host": host}).status_code == 200, host
    same = {"host": f"localhost:{port}", "origin": f"http://localhost:{port}", "sec-fetch-site": "same-origin"}
    assert http.get("/livez", headers=same).status_code == 200
    server.configure(FakeSettings(allowed_hosts=("Orch.Example",)))
    assert http.get("/livez", headers={"host": "orch.example"}).status_code == 200


def test_beyond_loopback_any_literal_address_is_ours_but_no_strange_name():
    access = Access.from_settings(FakeSettings(http_address=("0.0.0.0", 1), api_token=SecretStr("t")))
    access.check_origin({b"host": b"10.1.2.3:8642"})
    with pytest.raises(Exception, match="not ours"):
        access.check_origin({b"host": b"evil.example"})


def test_where_a_token_is_set_every_route_needs_it(server, http, router):
    server.configure(FakeSettings(api_token=SecretStr("s3cret")))
    good = {"authorization": "Bearer s3cret"}
    for method, path in routes(server):
        if path in ("/livez", "/readyz"):
            continue
        for headers in (
            {},
            {"authorization": "Bearer s3cre"},
            {"authorization": "Basic s3cret"},
            {"authorization": ""},
        ):
            answer = http.request(method, path, headers=headers)
            problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert http.request(method, path, headers=good).status_code != 401
    assert http.get("/api/v1/status?token=s3cret").status_code == 401
    assert http.get("/livez").status_code == 200
    assert http.get("/readyz").json()["checks"]["store"] == {"ok": True}
    assert http.get("/readyz", headers=good).json()["checks"]["store"]["detail"] == "secret path"
    server.configure(FakeSettings(api_token=SecretStr("another")))
    assert http.get("/api/v1/status", headers=good).status_code == 401


def test_who_may_only_look_may_change_nothing_on_any_route(server, http, router):
    """By method: a route that is new is covered by this test and by the rule."""
    server.configure(FakeSettings(api_token=SecretStr("operates"), read_token=SecretStr("looks")))
    looks = {"authorization": "Bearer looks"}
    changes = 0
    for method, path in routes(server):
        answer = http.request(method, path, headers=looks)
        if method in ("GET", "HEAD"):
            assert answer.status_code not in (401, 403), path
        else:
            changes += 1
            assert "operate" in problem(answer, 403, "forbidden")["detail"]
    assert changes >= 7
    assert not router.submitted and not router.restarted
    assert http.get("/readyz", headers=looks).json()["checks"]["store"]["detail"] == "secret path"
    sent = http.post(
        "/api/v1/conversations/c1/messages", json={"text": "x"}, headers={"authorization": "Bearer operates"}
    )
    assert sent.status_code == 202
