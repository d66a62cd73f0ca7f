"""Models by name: paths, shipped models, and a repository of the Hub (a local stand-in)."""

import contextlib
import hashlib
import http.server
import sys
import threading
from pathlib import Path

import pytest

from vseg_jax import zoo
from vseg_jax.inference import sources

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b"the file of the model"


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    folder = tmp_path / "zoo"
    folder.mkdir()
    for suffix in ("toml", "safetensors"):
        (folder / f"tiny.{suffix}").write_text("")
    monkeypatch.setattr(zoo, "FOLDER", folder)
    return folder / "tiny.safetensors"


def test_a_path_comes_before_a_shipped_model(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sources.find("tiny") == shipped
    (tmp_path / "tiny").mkdir()
    assert sources.find("tiny") == Path("tiny") == sources.find(Path("tiny"))


def test_an_unknown_name_gets_a_hint(shipped, monkeypatch):
    with pytest.raises(ValueError, match=r"no folder or file tinny .* did you mean 'tiny'\?"):
        sources.find("tinny")
    monkeypatch.setattr(zoo, "FOLDER", shipped.parent / "none")
    with pytest.raises(ValueError, match=r"of that name\. Name the workdir of a training"):
        sources.find("tinny")


@pytest.mark.parametrize("address", [
    "hf://owner", "hf://owner/name/more", "hf://owner/name@", "hf://../name@main@1", "hf://a/b c"])
def test_what_is_no_address(address):
    with pytest.raises(ValueError, match="it must be hf://OWNER/NAME or hf://OWNER/NAME@REVISION"):
        sources.find(address)


def test_the_hub_needs_its_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"needs huggingface_hub: pip install 'vseg_jax\[hub\]'"):
        sources.find("hf://owner/name")


class Hub(http.server.BaseHTTPRequestHandler):
    """Has the repositories owner/model and owner/pickle, as the Hub presents them."""

    requests: list[str]

    def do_HEAD(self):
        self.respond()

    def do_GET(self):
        self.respond()

    def respond(self):
        if "/resolve/" in self.path:   # the client also asks for something about itself
            self.requests.append(self.path)
        _, owner, name, *rest = self.path.split("/")
        if (owner, name) not in (("owner", "model"), ("owner", "pickle")):
            self.fail("RepoNotFound")
        elif rest[1] not in ("main", "v1", COMMIT):
            self.fail("RevisionNotFound")
        elif name == "pickle" or rest[2] != "model.safetensors":
            self.fail("EntryNotFound")
        else:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(CONTENT)

    def fail(self, code):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server that stands in for the Hub; yields the list of the files that were requested."""
    constants = pytest.importorskip("huggingface_hub.constants")
    Hub.requests = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                        address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    with contextlib.closing(server.socket):
        yield Hub.requests
        server.shutdown()


def test_a_model_from_the_hub(hub):
    for address, revision in (("hf://owner/model", "main"), ("hf://owner/model@v1", "v1"),
                              (f"hf://owner/model@{COMMIT}", COMMIT)):
        path = sources.find(address)
        assert path.name == "model.safetensors" and path.read_bytes() == CONTENT
        assert COMMIT in path.parts
        if revision != COMMIT:   # that one is in the cache by now
            assert f"/owner/model/resolve/{revision}/model.safetensors" in hub
    assert not any(f"/resolve/{COMMIT}/" in request for request in hub)


def test_what_the_hub_does_not_have(hub):
    with pytest.raises(ValueError, match=r"has no file model\.safetensors; pickles .* not loaded"):
        sources.find("hf://owner/pickle")
    assert all(request.endswith("/model.safetensors") for request in hub), "nothing else is asked"
    with pytest.raises(ValueError, match="hf://other/model does not exist, or is private"):
        sources.find("hf://other/model")
    with pytest.raises(ValueError, match="hf://owner/model@v9 does not exist"):
        sources.find("hf://owner/model@v9")
