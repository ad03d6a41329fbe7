"""Pickles and secrets are refused before anything is written, with the chain, the place and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbserve.bundle import Bundle
from nbserve.bundle.manifest import EntryRecord
from nbserve.errors import BundleError, ExportError, UsageError
from nbserve.export.image import Asked, export_image
from nbserve.export.refusals import find_secrets
from tests.unit.export.bundles import LINEAR, sample, write

RANDOM = "9f3Kd8-Qz1LmXw7"


def export(bundle: Bundle, output: Path, **options: object) -> None:
    export_image(Asked(name=bundle.name, bundle=bundle.path, output=output, build=False, proof="off", **options), print)  # type: ignore[arg-type]


def test_a_pickle_is_refused_with_its_chain_and_the_mend(tmp_path: Path) -> None:
    entry = EntryRecord(
        "cipher", "pickle (live only)", "In[5]", 12, ("Digits", "featurize", "cipher"), "it has a __reduce__ of its own"
    )
    bundle = write(tmp_path / "b", values={"cipher": 1}, live_only=True, entries=(entry,))
    with pytest.raises(ExportError) as caught:
        export(bundle, tmp_path / "out")
    assert "Digits -> featurize -> cipher, In[5]: a int (it has a __reduce__ of its own)" in caught.value.message
    assert "`initialize`" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_pickle_without_provenance_is_refused_too(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b", values={"cipher": 1}, live_only=True)
    (bundle.path / "provenance.json").unlink()
    with pytest.raises(ExportError, match="cipher: a int"):
        export(bundle, tmp_path / "out")


def test_secrets_in_code_values_modules_and_sample_are_named_with_their_place(tmp_path: Path) -> None:
    entries = (EntryRecord("settings", "value", "In[2]"),)
    bundle = write(
        tmp_path / "b",
        LINEAR + f"\n\npassword = {RANDOM!r}\n",
        values={"weights": [[1.0]], "settings": {"url": "x", "api_key": RANDOM}},
        modules={"clients.py": f"\ndef connect(token={RANDOM!r}):\n    pass\n"},
        asked=sample({"auth_token": RANDOM}),
        entries=entries,
    )
    line = len(LINEAR.splitlines()) + 3
    assert {(found.name, found.where) for found in find_secrets(bundle)} == {
        ("password", f"In[4], line {line - 2}"),
        ("api_key", "the value settings, In[2]"),
        ("token", "clients.py, line 2"),
        ("auth_token", "the sample (sample.json)"),
    }
    with pytest.raises(ExportError) as caught:
        export(bundle, tmp_path / "out")
    assert 'os.environ["TOKEN"]' in caught.value.hint or 'os.environ["API_KEY"]' in caught.value.hint
    assert "--allow-secret" in caught.value.hint
    assert RANDOM not in caught.value.message + caught.value.hint
    assert not (tmp_path / "out").exists()


def test_what_is_allowed_by_name_goes_in(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b", LINEAR + f"\n\npassword = {RANDOM!r}\n")
    with pytest.raises(ExportError, match="password"):
        export(bundle, tmp_path / "out", allow_secrets=("token",))
    export(bundle, tmp_path / "out", allow_secrets=("password",))
    assert (tmp_path / "out" / "Dockerfile").is_file()


def test_a_changed_bundle_is_refused(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b")
    (bundle.path / "handler.py").write_text("x = 1\n")
    with pytest.raises(BundleError, match="was changed"):
        export(bundle, tmp_path / "out")


def test_another_python_is_refused(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b", python="3.9")
    with pytest.raises(UsageError, match=r"captured under Python 3\.9"):
        export(bundle, tmp_path / "out")


@pytest.mark.parametrize("options", [{"tag": "Not A Tag"}, {"tag": "x:y:z"}, {"base_image": "a\nRUN x"}])
def test_names_of_images_are_checked(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="no name of an image"):
        export(write(tmp_path / "b"), tmp_path / "out", **options)


def test_what_lies_in_the_way_is_kept(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b")
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        export(bundle, output)
    assert [path.name for path in output.iterdir()] == ["thesis.txt"]
    (output / "thesis.txt").unlink()
    export(bundle, output)
    (output / "left-over").write_text("")
    export(bundle, output)
    assert not (output / "left-over").exists(), "an earlier export is replaced"
    assert {path.name for path in tmp_path.iterdir()} == {"b", "out"}, "nothing temporary stays"
