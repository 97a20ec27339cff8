"""Configuration files: reading, overriding, checking. An unknown key is an error that names the nearest known one."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError

from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.nearest import hint


class Config(BaseModel):
    """Base of every configuration: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Schema = TypeVar("Schema", bound=BaseModel)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Content of a YAML 1.2 file (`1e-6` is a number).

    Raises FileError when there is no such file, UsageError for bad syntax, a duplicate key, or no mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise FileError(f"no file {path}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """As `read_yaml`, for text; `source` names it in messages."""
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        key = str(error.problem).partition("with value")[0].strip()
        raise UsageError(f"{source}: {key} (line {_line(error)}); keep one of the two") from None
    except MarkedYAMLError as error:
        raise UsageError(f"{source}: line {_line(error)}: {error.problem}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{source}: expected a mapping of keys to values")
    return data


def _line(error: MarkedYAMLError) -> int:
    return error.problem_mark.line + 1 if error.problem_mark else 0


def shipped_yaml(name_or_path: str | Path, kind: str, folder: Path) -> Path:
    """Path of a YAML file, or of the one of that name that ships in `folder`; `kind` (config, ...) is for messages.

    Raises UsageError, listing the names, when none of that name ships; that a path exists is not checked.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return path
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    if str(name_or_path) not in names:
        raise UsageError(f"no {kind} {name_or_path}{hint(str(name_or_path), names)}\nOr give the path of a .yaml file.")
    return folder / f"{name_or_path}.yaml"


def override(data: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Configuration `data` with every assignment `a.b=value` applied; values are YAML. The input is not modified.

    Raises UsageError for an assignment without `=` or one that goes below a plain value.
    """
    result = copy.deepcopy(dict(data))
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted:
            raise UsageError(f"--set {assignment}: expected key=value, for example --set grid.nx=128")
        *parents, last = dotted.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UsageError(f"--set {assignment}: {parent} is a value and has no keys below it")
        place[last] = parse_yaml(f"value: {text}", f"--set {assignment}")["value"]
    return result


def parse(schema: type[Schema], data: Mapping[str, Any], source: str) -> Schema:
    """Configuration `data` as an object of `schema`.

    Raises UsageError with the first problem: its key, what is wrong, and for an unknown key the nearest one.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        raise UsageError(f"{source}: unknown key {where}{_nearest(schema, problem['loc'])}")
    if problem["type"] == "value_error":  # of a check of the schema's own, which says what it found
        raise UsageError(f"{source}: {where + ': ' if where else ''}{problem['ctx']['error']}")
    given = "" if problem["type"] == "missing" else f", not {str(problem['input'])[:60]!r}"
    raise UsageError(f"{source}: {where}: {problem['msg']}{given}")


def _nearest(schema: type[BaseModel], location: tuple[int | str, ...]) -> str:
    return hint(str(location[-1]), _keys_beside(schema, location), "valid here:")


def _keys_beside(schema: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields at the level of the schema that `location` points into."""
    level: Any = schema.model_json_schema()
    definitions = level.get("$defs", {})
    for part in location[:-1]:
        level = _properties(level, definitions).get(part, level)
    return list(_properties(level, definitions))


def _properties(level: Any, definitions: Mapping[str, Any]) -> dict[Any, Any]:
    """The properties of one level of a JSON schema, through references, lists and alternatives."""
    if "$ref" in level:
        return _properties(definitions[level["$ref"].rpartition("/")[2]], definitions)
    found = dict(level.get("properties", {}))
    for alternative in (*level.get("anyOf", ()), *level.get("oneOf", ()), level.get("items")):
        if isinstance(alternative, Mapping):
            found.update(_properties(alternative, definitions))
    return found


def dump_yaml(content: BaseModel | Mapping[str, Any]) -> str:
    """A configuration as YAML text that reads back to the same configuration."""
    data = content.model_dump(mode="json") if isinstance(content, BaseModel) else content
    stream = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False
    writer.dump(data, stream)
    return stream.getvalue()
