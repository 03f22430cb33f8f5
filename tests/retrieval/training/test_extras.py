"""Optional libraries."""

import json.decoder
import re
import sys

import pytest

from common import ConfigError
from retrieval.training.extras import import_extra


def test_a_module_that_is_there_is_returned() -> None:
    assert import_extra("json", "extra", "this") is json
    assert import_extra("json.decoder", "extra", "this") is json.decoder


@pytest.mark.parametrize("module", ["bm25s", "bm25s.of.an.older.version"])
def test_a_missing_package_is_named_with_who_needs_it_and_its_extra(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    message = "BM25 needs the package bm25s; pip install -e '.[bm25]' in the project's folder"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$") as caught:
        import_extra(module, "bm25", "BM25")
    assert isinstance(caught.value.__cause__, ImportError)
