"""Keys: where they come from, who gets in, and what a wrong one is told."""

from pathlib import Path

import pytest

from ingot.errors import UsageError
from ingot.runtime.server.auth import KeyRing, read_keys
from ingot.runtime.server.errors import ApiError
from tests.server.conftest import Serve, read_error

KEY = "a-long-secret"


def test_keys_come_from_three_places(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nfile-key-1\n\n file-key-2 \n")
    found = read_keys(["option-key"], file, "variable-1, variable-2,option-key")
    assert found == ("option-key", "file-key-1", "file-key-2", "variable-1", "variable-2")


@pytest.mark.parametrize("key", ["short", "has a blank", "ümläute-key"])
def test_a_poor_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_keys([key], None, None)
    assert key not in str(refused.value)


def test_a_key_file_must_hold_keys(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "poor").write_text(f"{KEY}\nshort\n")
    (tmp_path / "folder").mkdir()
    for name, words in (
        ("empty", "the key file .*empty holds no key"),
        ("absent", "the key file .*absent can't be read: No such file or directory$"),
        ("folder", "the key file .*folder can't be read: Is a directory$"),
        ("bytes", "the key file .*bytes can't be read: it is not text in UTF-8$"),
        ("poor", "the key in line 2 of .*poor has 5 characters"),
    ):
        with pytest.raises(UsageError, match=words):
            read_keys([], tmp_path / name, None)


def test_the_ring_keeps_no_key() -> None:
    ring = KeyRing([KEY])
    assert KEY not in repr(vars(ring)) and KEY.encode() not in ring._hashes
    assert ring.identify(f"Bearer {KEY}".encode()) == ring.identify(f"bearer  {KEY}".encode())
    assert KeyRing([]).identify(None) == ""


@pytest.mark.parametrize(
    ("header", "words"),
    [(None, "wants an API key"), (b"Basic abc", "not of the form"), (b"Bearer no", "not one of")],
)
def test_others_stay_outside(header: bytes | None, words: str) -> None:
    with pytest.raises(ApiError, match=words) as refused:
        KeyRing([KEY]).identify(header)
    assert refused.value.status == 401


def test_the_server_asks_for_a_key(serve: Serve) -> None:
    server = serve(api_keys=(KEY, "another-key"))
    client = server.client
    for path in ("/v1/models", "/v1/engine", "/metrics", "/openapi.json", "/nowhere"):
        response = client.get(path)
        assert response.status_code == 401 and "API key" in read_error(response)
        assert response.headers["www-authenticate"] == "Bearer"
    assert client.post("/v1/completions", content=b"not even json").status_code == 401
    for path in ("/health", "/ready", "/", "/page/main.js"):
        assert client.get(path).status_code == 200
    assert client.get("/page/%2e%2e/auth.py").status_code == 404
    headers = {"Authorization": f"Bearer {KEY}"}
    assert client.get("/v1/models", headers=headers).status_code == 200
    assert client.get("/v1/models", headers={"Authorization": b"Bearer \xff"}).status_code == 401


def test_keys_share_neither_cached_pages_nor_traces(serve: Serve) -> None:
    server = serve(api_keys=(KEY, "another-key"))
    ids = []
    for key in (KEY, "another-key"):
        server.client.headers["Authorization"] = f"Bearer {key}"
        ids.append(server.complete(cache_salt="x").json()["id"])
    salts = [options.cache_salt for _, _, options in server.engine.asked]
    assert salts[0] != salts[1] and all(salt.endswith("/x") for salt in salts)
    assert server.client.get(f"/v1/requests/{ids[1]}").status_code == 200
    assert server.client.get(f"/v1/requests/{ids[0]}").status_code == 404
