from pathlib import Path

import pytest

from spact_lib import results
from spact_lib.errors import DamagedError
from spact_lib.files import write_text


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", "{}", "[]", '{"key": "half', '{"key": "b"}'])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    write_text(tmp_path / "table1.jsonl", f'{{"key": "a", "metrics": {{}}, "made": "2026"}}\n{line}\n')
    with pytest.raises(DamagedError, match="table1.jsonl, line 2: .* is no record; restore the file"):
        results._committed(tmp_path)
