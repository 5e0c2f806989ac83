"""Convert what a variable, an option or a configuration file says into the value of a setting, strictly.

Texts hold everything as people write it: `2000000`, `0.5`, `true`, `400=false,404=false`. A file in TOML has types of
its own, and they have to fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, get_args, get_origin

from moe_segments.errors import InputError
from moe_segments.models.urls import journal_url_of
from moe_segments.models.validators import problem_of_quotes

if TYPE_CHECKING:
    import cattrs

    from moe_segments.settings.table import Setting

__all__ = ["from_text", "from_toml"]

_TRUTH: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_WHOLE: Final = re.compile(r"[+-]?\d+(_\d+)*")


def from_text(setting: Setting, text: str) -> object:
    """Return the value that *text* stands for.

    Raises:
        InputError: It stands for none. The sentence repeats no text that may be a secret.
    """
    if problem := problem_of_quotes(text):
        raise InputError(problem)
    if get_origin(setting.kind) is Mapping:
        pairs = [part.partition("=") for part in re.split(r"[,\s]+", text.strip()) if part]
        if not all(separator and name for name, separator, _ in pairs):
            raise InputError(f"must be pairs, such as {_example_of(setting)}, not {text!r}")
        return _mapped(setting, {name: value for name, _, value in pairs}, _of_texts())
    if _may_be_word(setting.kind):
        return _TRUTH.get(text.lower(), text)
    return _of_texts().structure(text, setting.kind)


def from_toml(setting: Setting, value: object, directory: Path = Path()) -> object:
    """Return the value that a configuration file gives; a path in it is relative to the file's own *directory*.

    Raises:
        InputError: It is of another type, or empty. The sentence repeats no text that may be a secret.
    """
    if problem := problem_of_quotes(value):
        raise InputError(problem)
    if isinstance(value, str) and not value.strip():
        raise InputError("is empty: give it a value, or leave it out")
    if get_origin(setting.kind) is Mapping:
        if not isinstance(value, Mapping):
            pairs = ", ".join(pair.replace("=", " = ") for pair in _example_of(setting).split(","))
            raise InputError(f"must be a table, such as {{ {pairs} }}")
        return _mapped(setting, value, _of_toml())
    if _may_be_word(setting.kind) and isinstance(value, bool | str):
        return value
    read = _of_toml().structure(value, setting.kind)
    if setting.name == "journal":
        return _journal_at(str(read), directory)
    return directory / read if isinstance(read, Path) else read


def _journal_at(journal: str, directory: Path) -> str:
    """Return a journal URL whose file, where it is a relative one, is relative to *directory*."""
    url = str(journal_url_of(journal))
    path, mark, options = url.removeprefix("sqlite:///").partition("?")
    if not url.startswith("sqlite:///") or path.startswith(("/", "~", ":")):
        return journal
    return f"sqlite:///{(directory / path).absolute()}{mark}{options}"


def _may_be_word(kind: Any) -> bool:
    """Return whether true and false are not all that a setting may be: which words may, its class says."""
    kinds = get_args(kind)
    return bool in kinds and any(get_origin(each) is Literal for each in kinds)


def _example_of(setting: Setting) -> str:
    return "400=false,404=false" if get_args(setting.kind)[0] is int else "operations_per_hour=2,users_per_day=100000"


def _mapped(setting: Setting, values: Mapping[str, object], converter: cattrs.Converter) -> dict[object, object]:
    key, item = get_args(setting.kind)
    return {_of_texts().structure(name, key): converter.structure(value, item) for name, value in values.items()}


def _whole(text: str, _: object) -> int:
    if not _WHOLE.fullmatch(text):
        raise InputError(f"must be a whole number, such as 2000000, not {text!r}")
    return int(text)


def _number(text: str, _: object) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"must be a number, such as 30 or 0.5, not {text!r}") from None


def _truth(text: str, _: object) -> bool:
    value = _TRUTH.get(text.lower())
    if value is None:
        raise InputError(f"must be true or false, not {text!r}")
    return value


def _path(text: str, _: object) -> Path:
    return Path(text).expanduser()


def _as_it_is(value: object, _: object) -> object:
    return value


def _is_choice(kind: Any) -> bool:
    return get_origin(kind) is Literal


@cache
def _of_texts() -> cattrs.Converter:
    return _converter({int: _whole, float: _number, bool: _truth, str: _as_it_is, Path: _path})


def _refuse(value: object, wanted: str) -> NoReturn:
    given = {bool: "true or false", int: "a number", float: "a number", str: "text"}.get(type(value), "something else")
    raise InputError(f"must be {wanted}, and is {given}")


def _toml_whole(value: object, _: object) -> int:
    if type(value) is not int:
        _refuse(value, "a whole number without quotes, such as 2000000")
    return value


def _toml_number(value: object, _: object) -> float:
    if type(value) not in (int, float):
        _refuse(value, "a number without quotes, such as 30 or 0.5")
    assert isinstance(value, int | float)
    return value


def _toml_truth(value: object, _: object) -> bool:
    if type(value) is not bool:
        _refuse(value, "true or false without quotes")
    return value


def _toml_text(value: object, _: object) -> str:
    if not isinstance(value, str):
        _refuse(value, "text in quotes")
    return value


def _toml_path(value: object, kind: object) -> Path:
    return Path(_toml_text(value, kind)).expanduser()


@cache
def _of_toml() -> cattrs.Converter:
    return _converter({int: _toml_whole, float: _toml_number, bool: _toml_truth, str: _toml_text, Path: _toml_path})


def _converter(hooks: Mapping[Any, Any]) -> cattrs.Converter:
    import cattrs  # 40 ms, for who sets something

    converter = cattrs.Converter(detailed_validation=False)
    for kind, hook in hooks.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(_is_choice, hooks[str])  # which words are known, its class says
    return converter
