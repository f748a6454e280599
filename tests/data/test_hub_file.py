"""Files of the hub: an unreachable one is asked once, and then the cache."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from diptych.data.hub_file import hub_file


@pytest.mark.parametrize("answers", [True, False])
def test_where_the_hub_does_not_answer_the_cache_alone_is_asked(
    answers: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def metadata(url: str, timeout: float) -> None:
        assert url.endswith("/some/model/resolve/main/a.json") and timeout <= 10
        if not answers:
            raise ConnectionError("no network")

    def download(repository: str, name: str, *, local_files_only: bool) -> str:
        assert (repository, local_files_only) == ("some/model", not answers)
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert hub_file("some/model", "a.json") == tmp_path / "a.json"
