"""What stands in a source file before a theorem."""

from pathlib import Path

import pytest

from common import ConfigError, DataError, Pos
from generator.prompts.source_files import SourceFiles

TEXT = "import Lib\n\n-- ∀ x, x = x\ntheorem a : True := trivial\nprivate theorem b : p := h\n"


@pytest.fixture
def sources(tmp_path: Path) -> SourceFiles:
    (tmp_path / "Lib").mkdir()
    (tmp_path / "Lib" / "File.lean").write_text(TEXT, encoding="utf-8")
    return SourceFiles(tmp_path)


def test_lines_and_columns_count_characters_from_one(sources: SourceFiles) -> None:
    assert sources.before("Lib/File.lean", Pos(1, 1), 100) == ""
    assert sources.before("Lib/File.lean", Pos(4, 1), 100) == "import Lib\n\n-- ∀ x, x = x\n"
    assert sources.before(Path("Lib/File.lean"), Pos(3, 6), 100) == "import Lib\n\n-- ∀ "
    assert sources.before("Lib/File.lean", Pos(5, 9), 100) == TEXT[: TEXT.index("theorem b")]
    assert sources.before("Lib/File.lean", Pos(6, 1), 100) == TEXT


def test_of_a_long_file_the_end_is_read_and_no_character_is_split(tmp_path: Path) -> None:
    (tmp_path / "Long.lean").write_text("∀" * 10_000 + "\ntheorem", encoding="utf-8")
    before = SourceFiles(tmp_path).before("Long.lean", Pos(2, 1), 100)
    assert before == "∀" * (799 // 3) + "\n"


def test_what_is_not_there_is_named(sources: SourceFiles, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sources_path .*nowhere: there is no such folder"):
        SourceFiles(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"cannot read .*Gone\.lean: No such file .*; set sources_path"):
        sources.before("Gone.lean", Pos(1, 1), 100)
    with pytest.raises(DataError, match=r"File\.lean: ends before 9:1; is it of another commit"):
        sources.before("Lib/File.lean", Pos(9, 1), 100)
    for outside in ("../other/File.lean", "/etc/hostname"):
        with pytest.raises(DataError, match="leads out of sources_path"):
            sources.before(outside, Pos(1, 1), 100)
