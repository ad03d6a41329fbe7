"""The folder: written whole or not at all, read with errors that say what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbserve.bundle import Bundle, Sample
from nbserve.bundle.folder import Content, write_bundle
from nbserve.bundle.manifest import HandlerRecord, Manifest, Provenance, Span, ValueRecord
from nbserve.errors import BundleError

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
HANDLER = '''"""A handler."""

from nbserve.bundle import open_values

value = open_values(__file__)

labels = value("labels")


def predict(batch):
    return [labels[x] for x in batch]
'''

SAMPLE = Sample(
    content_type="application/json", body=b"1", expected_content_type="application/json", expected_body=b'"b"'
)


def chunks(text: str) -> Any:
    def give() -> Iterator[bytes]:
        yield text.encode()

    return give


def write(root: Path, *, handler: str = HANDLER, sample: Sample | None = SAMPLE, created_at: float = 1.0) -> Bundle:
    manifest = Manifest(
        name="words",
        handler=HandlerRecord("predict", "function"),
        python=HERE,
        values={"labels": ValueRecord("structure", "list", ["data/labels.json"])},
        requirements=["jupyter-nbserve==1"],
    )
    content = Content({"handler.py": chunks(handler), "data/labels.json": chunks('["a", "b"]')}, {})
    provenance = Provenance(created_at=created_at, source_map=[Span(10, 11, "In[4]", 7)])
    return write_bundle(root, manifest, content, provenance, sample)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = write(tmp_path)
    bundle = Bundle.open(str(written.path), check_digest=True)
    assert bundle.path.name == f"words-{bundle.digest[:12]}"
    assert (bundle.name, bundle.digest, bundle.manifest) == ("words", written.digest, written.manifest)
    assert bundle.sample == SAMPLE
    assert bundle.provenance.created_at == 1.0
    assert [path.name for path in tmp_path.iterdir()] == [bundle.path.name], "no temporary folders are left"


def test_loading_runs_handler_py_with_its_values(tmp_path: Path) -> None:
    stages: list[str] = []
    bundle = write(tmp_path)
    loaded = bundle.load(stages.append)
    assert stages == ["import", "values"]
    assert loaded.handler([1]) == ["b"]
    assert loaded.kind == "function"
    assert sys.modules[f"nbserve_handler_{bundle.digest[:8]}"] is loaded.module
    assert loaded.locate(str(bundle.path / "handler.py"), 11) == "In[4], line 8"
    assert loaded.locate(str(bundle.path / "handler.py"), 7) == "handler.py, line 7"
    assert loaded.locate(__file__, 7) is None
    bundle.check()


def test_the_same_content_is_the_same_bundle(tmp_path: Path) -> None:
    first = write(tmp_path)
    inode = (first.path / "handler.py").stat().st_ino
    other = Sample(content_type="text/plain", body=b"x", expected_content_type="text/plain", expected_body=b"y")
    second = write(tmp_path, sample=other, created_at=2.0)
    assert second.path == first.path
    assert (second.path / "handler.py").stat().st_ino == inode, "not written again"
    assert (second.sample, second.provenance.created_at) == (other, 2.0)
    assert write(tmp_path, sample=None).sample is None
    assert write(tmp_path, handler=HANDLER + "\n").digest != first.digest


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    manifest = Manifest(name="words", handler=HandlerRecord("predict", "function"), python=HERE)
    with pytest.raises(BundleError, match="No space left"):
        write_bundle(tmp_path, manifest, Content({"handler.py": fails}, {}), Provenance(), None)
    assert list(tmp_path.iterdir()) == []


def change(bundle: Bundle, file: str, text: str | None) -> None:
    path = bundle.path / file
    path.unlink() if text is None else path.write_text(text)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("manifest.json", None, "no manifest.json"),
        ("manifest.json", "{", "manifest.json cannot be read"),
        ("manifest.json", '{"schema": 1}', "manifest.json cannot be read"),
        ("handler.py", None, "no handler.py"),
        ("data/labels.json", None, "lacks data/labels.json"),
        ("sample.json", "[]", "sample.json"),
        ("provenance.json", "[]", "provenance.json"),
        ("handler.py", HANDLER + "# more\n", "handler.py was changed"),
        ("data/labels.json", '["a", "c"]', "data/labels.json was changed"),
        ("data/extra.bin", "x", "data/extra.bin is not in the manifest"),
    ],
)
def test_damage_is_named(file: str, text: str | None, message: str, tmp_path: Path) -> None:
    bundle = write(tmp_path)
    change(bundle, file, text)
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle.path, check_digest=True)


def test_a_manifest_changed_together_with_its_files_is_found(tmp_path: Path) -> None:
    bundle = write(tmp_path)
    text = (bundle.path / "manifest.json").read_text()
    change(bundle, "manifest.json", text.replace("jupyter-nbserve==1", "jupyter-nbserve==2"))
    with pytest.raises(BundleError, match="the manifest was changed"):
        Bundle.open(bundle.path, check_digest=True)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a folder"):
        Bundle.open(tmp_path / "none")


def test_errors_of_the_handler_come_through(tmp_path: Path) -> None:
    bundle = write(tmp_path, handler="1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        bundle.load()
    assert f"nbserve_handler_{bundle.digest[:8]}" not in sys.modules


def test_a_handler_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not define predict"):
        write(tmp_path, handler="x = 1\n").load()


def test_a_value_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no value 'words'"):
        write(tmp_path, handler=HANDLER.replace('"labels"', '"words"')).load()


def test_the_package_imports_without_torch() -> None:
    code = (
        "import sys, nbserve.bundle, nbserve.capture\n"
        "heavy = {'torch', 'transformers', 'numpy', 'IPython', 'cloudpickle'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
