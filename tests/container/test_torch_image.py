"""From a cell with a torch model to an image with torch in it, by the magics; built without any network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.container.storage import Storage
from tests.kernels import notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1000)]

MODEL = """
import torch
torch.manual_seed(3)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
x = torch.randn(4)
"""


def test_a_torch_model_of_a_notebook_becomes_an_image(storage: Storage, tmp_path: Path) -> None:
    with notebook(tmp_path) as kernel:
        kernel.run("%load_ext nbserve")
        kernel.run(MODEL)
        kernel.run("%nbserve serve net --sample x --max-batch-size 4")
        shown = kernel.run("%nbserve export net -o image -t net:torch --vendor", timeout_s=900)
        assert "net:torch" in shown
        assert "the image answers the sample as the live endpoint did (largest difference" in shown
    (image,) = json.loads(storage.podman("image", "inspect", "net:torch"))
    assert "NBSERVE_MAX_BATCH_SIZE=4" in image["Config"]["Env"]
    program = "import torch; print(torch.__version__, torch.cuda.is_available())"
    said = storage.podman(
        "run",
        "--rm",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--entrypoint",
        "/opt/venv/bin/python",
        "net:torch",
        "-c",
        program,
    )
    import torch

    assert said.split() == [torch.__version__, "False"], "the notebook's own build of torch"
    assert (tmp_path / "image" / "bundle" / "weights").is_dir()
