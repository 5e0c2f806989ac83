"""The table of settings in docs/settings.md, made from the code: `python -m tests.settings_table` writes it anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args, get_origin

from moe_segments.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_segments.settings import Setting

__all__ = ["PAGE", "table"]

PAGE: Final = Path(__file__).parents[1] / "docs" / "settings.md"
BEGIN: Final = "<!-- the table begins: python -m tests.settings_table writes it -->\n"
END: Final = "<!-- the table ends -->\n"
_KINDS: Final = {int: "whole number", float: "number", bool: "true, false", str: "text", Path: "path"}
_TITLES: Final = {
    "credentials": "Credentials",
    "client": "The client",
    "limits": "Quotas, and how they are counted",
    "run": "The run as a whole",
}


def table() -> str:
    """Return the settings as tables of Markdown, one for each purpose."""
    return "\n".join(line for purpose, title in _TITLES.items() for line in _section(purpose, title))


def _section(purpose: str, title: str) -> Iterator[str]:
    yield f"\n### {title}\n\n| Name | Variable | Value | Default | What it is for |\n| --- | --- | --- | --- | --- |"
    for setting in SETTINGS.values():
        if setting.purpose == purpose:
            default = "required" if setting.is_required else setting.default_text
            yield f"| `{setting.name}` | `{setting.variable}` | {_kind(setting)} | {default} | {setting.help} |"


def _kind(setting: Setting) -> str:
    if get_origin(setting.kind) is Mapping:
        return "pairs"
    kinds = [kind for kind in get_args(setting.kind) if kind is not type(None)] or [setting.kind]
    return _KINDS.get(kinds[0], "a word")


def main() -> None:
    """Write the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
