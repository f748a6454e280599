"""What every test can count on: no hub, no clock in properties, and where the shared data lies."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import torch

    from diptych.data.table import Table

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

# A busy machine must fail no property: an example may take longer than hypothesis' 200 ms.
# The suite draws the same examples every time; --hypothesis-profile=search draws others, to look further.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", settings.get_profile("search"), derandomize=True)
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=Path,
        default=ROOT / "tests" / "golden",
        metavar="DIR",
        help="a folder a room of stored outputs of the released code; the parity tests read every size from it",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device, and torch sees none")


@pytest.fixture(scope="session")
def golden_root(request: pytest.FixtureRequest) -> Path:
    """Where the sets of golden data lie, a folder a room."""
    root: Path = request.config.getoption("--golden-root")
    if not root.is_dir():
        raise pytest.UsageError(
            f"--golden-root {root} is no folder; expected one with a folder a room, as tests/golden"
        )
    return root


@pytest.fixture(scope="session")
def exit_code() -> Callable[..., int]:
    """Runs a command; returns its exit code."""
    from diptych.cli.main import main

    def run(*words: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def spoken(
    exit_code: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; returns its exit code, standard output and standard error, in wide lines without colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = exit_code(*words)
        return code, *capfd.readouterr()

    return run


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Bit for bit holds for one number of threads, and for small tensors a second one only waits."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def whole_float32() -> None:
    """Convolutions of a GPU as exact as a CPU's: by default torch lets cuDNN round their inputs to 10 bits (TF32)."""
    import torch

    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device on which a test is to find the same."""
    import torch

    return torch.device(request.param)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data, or a skip that says how to have it."""
    folder = Path(os.environ.get("DIPTYCH_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}; set DIPTYCH_SHARED")
    return folder


@pytest.fixture(scope="session")
def small_room() -> ModuleType:
    """The file train/small_room.py."""
    return _module(ROOT / "tests" / "train" / "small_room.py")


@pytest.fixture(scope="session")
def chance_regions() -> ModuleType:
    """The file data/chance_regions.py."""
    return _module(ROOT / "tests" / "data" / "chance_regions.py")


@pytest.fixture(scope="session")
def toy_regions() -> ModuleType:
    """The file data/toy_regions.py."""
    return _module(ROOT / "tests" / "data" / "toy_regions.py")


@pytest.fixture(scope="session")
def released_uniter() -> ModuleType:
    """The file parity/released_uniter.py."""
    return _module(ROOT / "tests" / "parity" / "released_uniter.py")


def _module(file: Path) -> ModuleType:
    """A file in a folder that is no package, so that it cannot be imported by name."""
    name = f"diptych_{file.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def small_table(small_room: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A table for the small room."""
    from diptych.data.table import open_table

    return open_table(small_room.write_table(tmp_path_factory.mktemp("small") / "table"))
