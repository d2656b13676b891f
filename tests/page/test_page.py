"""The page's files: what is served, under which policy, and that nothing comes from elsewhere."""

import re

from fastapi.testclient import TestClient

from ingot.runtime.server.page import FOLDER, POLICY, read_page
from tests.page.fake_server import FakeState, make_app


def client() -> TestClient:
    return TestClient(make_app(FakeState()))


def test_index_has_the_policy() -> None:
    answer = client().get("/")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY and "*" not in POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_file_is_served_and_then_not_again() -> None:
    for name, file in read_page().items():
        answer = client().get(f"/page/{name}")
        assert (answer.content, answer.headers["content-type"]) == (file.content, file.media_type)
        again = client().get(f"/page/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert client().head(f"/page/{name}").status_code == 200


def test_nothing_else_is_served() -> None:
    for name in ("missing.js", "__init__.py", "..%2F__init__.py", "%2e%2e/auth.py", "a/b"):
        assert client().get(f"/page/{name}").status_code == 404, name


def test_page_names_only_its_own_files() -> None:
    files = read_page()
    for name, file in files.items():
        text = file.content.decode()
        assert "innerHTML" not in text.replace("no innerHTML", ""), name
        assert not re.search(r"outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), name
        for address in re.findall(r'(?:from|import|src=|href=)\s*"([^"#]+)"', text):
            assert address.removeprefix("page/").removeprefix("./") in files, (name, address)
    index = files["index.html"].content.decode()
    assert "style=" not in index and "<style" not in index
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=", index)


def test_files_are_short() -> None:
    lengths = {
        path.name: len(path.read_text().splitlines()) for path in FOLDER.iterdir() if path.is_file()
    }
    assert {name: n for name, n in lengths.items() if n > 300} == {}
