"""Check the files of many operations: the documented path of `check_files`, which lives in `moe_segments.bulk`."""

from moe_segments.bulk.checks import check_files

__all__ = ["check_files"]
