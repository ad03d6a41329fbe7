"""The card says what is served and how to ask it; it holds no token, and nothing in it is taken for HTML."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path

import msgspec
import pytest

from nbserve.bundle.manifest import HandlerRecord, Manifest
from nbserve.bundle.proof import Sample, dump_sample
from nbserve.client import Client
from nbserve.config import ModelConfig
from nbserve.endpoint import Endpoint, Secret
from nbserve.notebook.card import as_html, as_text, build, curl_snippet, python_snippet
from nbserve.resolve import Served
from nbserve.wire.management import GatewayStatus, ModelStatus, WorkerStatus

EVIL = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("NBSERVE_HOME", str(tmp_path / "home"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    entries = [{"name": "model", "how": "value", "where": "In[3]", "bytes": 400_000_000, "chain": ["Digits", "model"]}]
    (folder / "provenance.json").write_text(json.dumps({"entries": entries, "warnings": [EVIL]}))
    manifest = Manifest(name="digits", handler=HandlerRecord("Digits", "class"), python="3.11")
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return folder


def model_status(bundle: Path, name: str = "digits") -> ModelStatus:
    return ModelStatus(
        name=name,
        version="2",
        state="READY",
        default=True,
        url=f"http://127.0.0.1:8080/predictions/{name}",
        bundle=str(bundle),
        digest="d",
        config=ModelConfig(workers=2),
        workers=[WorkerStatus(id=i, state="READY", pid=10 + i, cores=[i], threads=1) for i in range(2)],
    )


def gateway_status() -> GatewayStatus:
    memory = {"available_bytes": 11_000_000_000, "total_bytes": 16_000_000_000}
    return GatewayStatus(
        id="ab12", name="a.ipynb", pid=1, url="u", profile="notebook", uptime_s=1, owner_pid=1, models=[], memory=memory
    )


def add_sample(bundle: Path, body: bytes, content_type: str = "application/json") -> None:
    sample = Sample(content_type=content_type, body=body, expected_content_type="application/json", expected_body=b"1")
    (bundle / "sample.json").write_bytes(dump_sample(sample))


def test_the_card_says_what_is_served(bundle: Path) -> None:
    card = build(model_status(bundle), gateway_status())
    text, page = as_text(card), as_html(card)
    for part in ("digits version 2: ready", "http://127.0.0.1:8080/predictions/digits", "pid 10", "pid 11", "In[3]"):
        assert part in text
        assert part in page
    for part in ("2 workers x 400 MB shared, 11.0 GB free", "no sample: only initialize was checked", "400 MB"):
        assert part in text
        assert part in page
    assert EVIL in text
    assert EVIL not in page
    assert "&lt;script&gt;" in page


def test_no_token_in_any_form_of_an_endpoint(bundle: Path) -> None:
    endpoint = Endpoint(Served(Client("http://x", "the-token"), "digits"), model_status(bundle), gateway_status())
    shown = [repr(endpoint), endpoint._repr_html_(), repr(endpoint.token), f"{endpoint.__dict__!r}"]
    card = build(model_status(bundle), gateway_status())
    shown += [as_text(card), as_html(card)]
    assert not any("the-token" in each for each in shown)
    assert endpoint.token == "the-token"
    assert isinstance(endpoint.token, Secret)


@pytest.mark.parametrize("body", [b"[1, 2.5]", b'"it\'s $HOME `x` \\"q\\""', b'{"a": "\xc3\xa9"}'])
def test_the_snippets_carry_the_sample_through_the_shell_and_through_python(bundle: Path, body: bytes) -> None:
    add_sample(bundle, body)
    status = model_status(bundle)
    words = shlex.split(curl_snippet(status, "digits").replace("\\\n", " "))
    assert words[words.index("--data-binary") + 1] == body.decode()
    assert words[-1] == status.url
    assert "Authorization: Bearer $(nbserve token digits)" in words or "-m nbserve token digits" in " ".join(words)
    call = ast.parse(python_snippet(status, "digits")).body[-1]
    assert isinstance(call, ast.Expr)
    assert repr(json.loads(body)) in ast.unparse(call)


def test_a_large_sample_goes_to_a_file(bundle: Path) -> None:
    body = json.dumps(list(range(5000))).encode()
    add_sample(bundle, body)
    words = shlex.split(curl_snippet(model_status(bundle), "digits").replace("\\\n", " "))
    path = words[words.index("--data-binary") + 1]
    assert path.startswith("@")
    assert Path(path[1:]).read_bytes() == body
    assert "json.load(open(" in python_snippet(model_status(bundle), "digits")


def test_bytes_are_sent_as_they_are(bundle: Path) -> None:
    add_sample(bundle, b"\x89PNG\xff", "image/png")
    assert "content_type='image/png'" in python_snippet(model_status(bundle), "digits")
    assert "'Content-Type: image/png'" in curl_snippet(model_status(bundle), "digits")
    add_sample(bundle, b"plain words", "text/plain")
    assert "predict('plain words'.encode(), content_type='text/plain')" in python_snippet(model_status(bundle), "d")
