"""Columns of data frames and Arrow arrays as values. The gate installs the group `frames` and runs these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import InputError, check_file, clean_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WHY = "install the group frames for it"
pa = pytest.importorskip("pyarrow", reason=_WHY)
pd = pytest.importorskip("pandas", reason=_WHY)
pl = pytest.importorskip("polars", reason=_WHY)
np = pytest.importorskip("numpy", reason=_WHY)

IDS = ["u1", "u2", "u3"]
TEXTS: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.Series(IDS),
    "pandas index": lambda: pd.Index(IDS),
    "pandas with its own index": lambda: pd.Series(IDS, index=[7, 8, 9]),
    "pandas of Arrow": lambda: pd.Series(IDS, dtype="string[pyarrow]"),
    "pandas category": lambda: pd.Series(IDS, dtype="category"),
    "polars": lambda: pl.Series(IDS),
    "polars lazy column": lambda: pl.DataFrame({"id": IDS}).lazy().collect()["id"],
    "Arrow array": lambda: pa.array(IDS),
    "Arrow chunks": lambda: pa.chunked_array([IDS[:1], IDS[1:]]),
    "Arrow column": lambda: pa.table({"id": IDS, "name": IDS}).column("id"),
    "Arrow stream": lambda: pa.RecordBatchReader.from_batches(
        pa.schema([("id", pa.string())]), [pa.record_batch({"id": IDS[:2]}), pa.record_batch({"id": IDS[2:]})]
    ),
    "numpy": lambda: np.array(IDS),
    "numpy objects": lambda: np.array(IDS, dtype=object),
}
NUMBERS: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.Series([1, 2, 3]),
    "pandas nullable": lambda: pd.Series([1, 2, 3], dtype="Int64"),
    "polars": lambda: pl.Series([1, 2, 3]),
    "Arrow": lambda: pa.array([1, 2, 3]),
    "numpy": lambda: np.array([1, 2, 3], dtype=np.uint32),
    "numpy scalars": lambda: list(np.array([1, 2, 3])),
    "Arrow scalars": lambda: list(pa.array([1, 2, 3])),
}
MISSING: dict[str, Callable[[], Any]] = {
    "pandas None": lambda: pd.Series(["u1", None]),
    "pandas NaN": lambda: pd.Series([1, None]),
    "pandas NA": lambda: pd.Series([1, None], dtype="Int64"),
    "polars null": lambda: pl.Series(["u1", None]),
    "Arrow null": lambda: pa.array(["u1", None]),
    "numpy NaN": lambda: np.array([1.0, np.nan]),
    "pandas bool": lambda: pd.Series([True, False]),
    "numpy bool": lambda: list(np.array([True, False])),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", TEXTS)
async def test_a_column_of_text_gives_its_values(kind: str, tmp_path: Path) -> None:
    """What people have at hand is a column."""
    report = await clean_file(to=tmp_path / "copy.csv", values=TEXTS[kind]())
    assert report.path.read_text() == "u1\nu2\nu3\n"


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", NUMBERS)
async def test_a_column_of_integers_gives_their_digits(kind: str, tmp_path: Path) -> None:
    """Whole numbers of any library are whole numbers."""
    report = await clean_file(to=tmp_path / "copy.csv", values=NUMBERS[kind]())
    assert report.path.read_text() == "1\n2\n3\n"


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", MISSING)
async def test_what_is_missing_in_a_column_is_an_error(kind: str) -> None:
    """Nobody is called NaN."""
    with pytest.raises(InputError, match=r"value [12] "):
        await check_file(values=MISSING[kind]())


@pytest.mark.asyncio
@pytest.mark.parametrize("library", ["pandas", "polars", "Arrow", "Arrow stream"])
async def test_a_table_is_refused(library: str) -> None:
    """Iterated, it gives the names of its columns, or columns."""
    data = {"id": IDS, "name": IDS}
    table = pa.table(data)
    tables = {"pandas": pd.DataFrame(data), "polars": pl.DataFrame(data), "Arrow": table}
    with pytest.raises(InputError, match="column"):
        await check_file(values=tables.get(library, table.to_reader()))


@pytest.mark.asyncio
async def test_a_large_column_is_read_in_blocks(tmp_path: Path) -> None:
    """Each value once, in order, whatever the block."""
    report = await clean_file(to=tmp_path / "copy.csv", values=pa.array(range(50_001)))
    assert report.path.read_text().split() == list(map(str, range(50_001)))
