"""Pages that are made of the code: `make docs` writes them, a test compares them."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from impasto.services.api import create_app
from impasto.shared.settings import PREFIX, Settings
from tests.arrange.paths import ROOT

DOCS = ROOT / "docs"
MADE = "<!-- Made by `make docs` from the code: change it there. -->"
_METHODS = ("get", "post", "put", "patch", "delete")
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def pages() -> Mapping[Path, str]:
    """Each page's text, by its file."""
    return {DOCS / "settings.md": _settings_page(), DOCS / "api.md": _api_page()}


def _settings_page() -> str:
    properties = Settings.model_json_schema()["properties"]
    rows = "\n".join(_setting(name, node) for name, node in properties.items())
    return f"""# Settings

{MADE}

Environment variables, read once when a process starts. One that is not accepted ends it, with the
reason. S3 takes its endpoint and its keys from the usual variables `AWS_ENDPOINT_URL_S3`,
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_DEFAULT_REGION`.

| variable | default | accepted | |
|---|---|---|---|
{rows}
"""


def _setting(name: str, node: Mapping[str, Any]) -> str:
    default = Settings.model_fields[name].default
    shown = f"`{default}`" if default not in (None, "") else ""
    words = " ".join(f"`{word}`" for word in node.get("enum", ()))
    bounds = ", ".join(f"{sign} {node[key]:.10g}" for key, sign in _BOUNDS.items() if key in node)
    return f"| `{PREFIX}{name.upper()}` | {shown} | {words or bounds} | {node['description']} |"


def _api_page() -> str:
    with tempfile.TemporaryDirectory() as home:
        document: dict[str, Any] = create_app(Settings(home=Path(home))).spec
    common = _common_codes(document)
    found = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in _METHODS
    ]
    rank = [tag["name"] for tag in document["tags"]].index
    found.sort(key=lambda one: (rank(one[2]["tags"][0]), one[0].count("/")))
    rows = "\n".join(
        f"| `{method.upper()}` | [`{path}`](#{_anchor(method, path)}) | {operation['summary']} |"
        for path, method, operation in found
    )
    operations = "\n".join(_operation(*one, common) for one in found)
    codes = "\n".join(f"- {text}" for _, text in sorted(common.items()))
    return f"""# The API

{MADE}

{document["info"]["description"]} `/openapi.json` describes it for programs.

| | | |
|---|---|---|
{rows}

Each takes `X-Request-Id`: a name for the request, which its log lines and its answer bear. Any of
them may answer:

{codes}

{operations}"""


def _common_codes(document: Mapping[str, Any]) -> dict[str, str]:
    """What every operation may answer, by its status: told once."""
    counts: Counter[tuple[str, str]] = Counter()
    count = 0
    for methods in document["paths"].values():
        for method, operation in methods.items():
            if method in _METHODS:
                count += 1
                counts.update(set(_refusals(operation)))
    common: dict[str, list[str]] = {}
    for (status, text), times in counts.items():
        if times == count:
            common.setdefault(status, []).append(text)
    return {status: f"{status} {' '.join(sorted(texts))}" for status, texts in common.items()}


def _refusals(operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Status and text of each problem that it may answer."""
    for status, answer in operation["responses"].items():
        if status >= "400":
            for line in answer["description"].splitlines():
                if line.strip():
                    yield status, line.strip().removeprefix("- ")


def _operation(
    path: str, method: str, operation: Mapping[str, Any], common: Mapping[str, str]
) -> str:
    answers = [
        f"| {status} | {answer['description']} |"
        for status, answer in operation["responses"].items()
        if status < "400"
    ]
    refused = [
        f"| {status} | {text} |"
        for status, text in _refusals(operation)
        if text not in common.get(status, "")
    ]
    parameters = [
        f"- `{one['name']}` ({one['in']}{', required' if one.get('required') else ''}):"
        f" {one.get('description', '')}".rstrip()
        for one in operation.get("parameters", ())
        if one["name"] != "X-Request-Id"
    ]
    parts = [
        f"## {method.upper()} {path}",
        f"{operation['summary']} {operation.get('description', '')}".strip(),
        "\n".join(parameters),
        "\n".join(["| status | |", "|---|---|", *answers, *refused]),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _anchor(method: str, path: str) -> str:
    """As Markdown's renderers make it of a heading."""
    return f"{method}-" + "".join(c for c in path.lower() if c.isalnum() or c in "-_")


def main() -> None:
    """Write the pages."""
    for file, text in pages().items():
        file.write_text(text)
        print(file)


if __name__ == "__main__":
    main()
