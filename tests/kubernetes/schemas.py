"""JSON schemas, strict ones, of kinds that Kubernetes itself does not know.

The CRDs are in no package of npm or PyPI. What is made from them is: types of TypeScript for the Prometheus
operator and KEDA, classes of Python for KServe. Both are read here as text, never run; what they take from
Kubernetes is held to Kubernetes' own schemas.
"""

import ast
import functools
import json
import re
import tarfile
import zipfile
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from export.common.errors import PackageError
from export.common.packages import Package, fetch

PROMETHEUS_OPERATOR = Package(  # of its release 0.9x
    "@kubernetes-models/prometheus-operator@6.0.0",
    "kubernetes-models-prometheus-operator-6.0.0.tgz",
    "e92402ebff400ea1ca5fe60546554841ab6f5986b317f3f0d4cb756dc88fbd37",
)
KEDA = Package(
    "@kubernetes-models/keda@2.0.0",
    "kubernetes-models-keda-2.0.0.tgz",
    "825e7b45dfd9da8dfdfd838a6d31e2e180c8491c8e493c3822f9123e49ceffef",
)
KSERVE = Package(
    "kserve==0.21.0",
    "kserve-0.21.0-py3-none-any.whl",
    "df9bc5888704d9085015e08f1a8fced5ff0698f3becc6212d4e7b8234c71623b",
)
TYPES = {  # kind -> package and the file of its type
    "ServiceMonitor": (PROMETHEUS_OPERATOR, "monitoring.coreos.com/v1/ServiceMonitor"),
    "PodMonitor": (PROMETHEUS_OPERATOR, "monitoring.coreos.com/v1/PodMonitor"),
    "PrometheusRule": (PROMETHEUS_OPERATOR, "monitoring.coreos.com/v1/PrometheusRule"),
    "ScaledObject": (KEDA, "keda.sh/v1alpha1/ScaledObject"),
}
CLASSES = {"ServingRuntime": "V1alpha1ServingRuntime", "InferenceService": "V1beta1InferenceService"}
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
IMPORT = re.compile(r'^import \{ (\w+)[^}]*\} from "([^"]+)";', re.M)
INTERFACE = re.compile(r"export interface \w+(?: extends ([\w, ]+))? \{(.*?)^\}", re.DOTALL | re.M)
ALIAS = re.compile(r"^export type I\w+ = (.*?);$", re.DOTALL | re.M)
TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[\w.]+|.)', re.DOTALL)
PRIMITIVES = {"string": "string", "number": "number", "boolean": "boolean"}
OF_PYTHON = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}
ANYTHING: dict = {}


def validate(resource: dict) -> None:
    """Raises `jsonschema.ValidationError`. Skips where the package cannot be had."""
    jsonschema.Draft202012Validator(schema_of(resource["kind"])).validate(resource)


@functools.cache
def schema_of(kind: str) -> dict:
    definitions: dict[str, dict] = dict(kubernetes_definitions())
    try:
        if kind in CLASSES:
            root = _of_python(zipfile.ZipFile(fetch(KSERVE)), CLASSES[kind], definitions)
        else:
            package, path = TYPES[kind]
            with tarfile.open(fetch(package)) as archive:
                root = _of_typescript(archive, f"package/{path}.d.ts", definitions)
    except PackageError as error:
        pytest.skip(f"what is known of {kind} could not be fetched: {error}")
    return {**root, "$defs": definitions}


@functools.cache
def kubernetes_definitions() -> dict[str, dict]:
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / "v1.37.0-local-strict"
    text = (folder / "_definitions.json").read_text()
    return json.loads(re.sub(r'"_definitions\.json#', '"#', text))["$defs"]


def _reference(name: str) -> dict:
    return {"$ref": f"#/$defs/{name}"}


def _kubernetes(suffix: str) -> dict:
    """The definition whose name ends so, such as `core.v1.Container`."""
    found = [name for name in kubernetes_definitions() if name.endswith(f".{suffix}")]
    assert found, f"Kubernetes knows no {suffix}"
    return _reference(found[0])


# --- types of TypeScript


def _of_typescript(archive: tarfile.TarFile, path: str, definitions: dict[str, dict]) -> dict:
    """A reference to the schema of a file's type, which is among the definitions then."""
    if path not in definitions:
        definitions[path] = ANYTHING  # while it is made: types may hold themselves
        text = COMMENT.sub("", archive.extractfile(path).read().decode())
        there = {
            name: (Path(path).parent / where).with_suffix(".d.ts")
            for name, where in IMPORT.findall(text)
            if where.startswith(".")
        }
        elsewhere = {name: where for name, where in IMPORT.findall(text) if not where.startswith(".")}

        def named(name: str) -> dict:
            if name in there:
                return _of_typescript(archive, str(there[name]), definitions)
            words = elsewhere[name].split("/")
            if words[-1] == "IntOrString":
                return {"type": ["string", "integer"]}
            if words[-1] == "Quantity":
                return {"type": ["string", "number"]}
            return _kubernetes(".".join(words[-2:]))

        if interface := INTERFACE.search(text):
            schema = _Type("{" + interface[2] + "}", named).read()
            for base in (interface[1] or "").replace(" ", "").split(","):
                if base and base != "TypeMeta":
                    other = definitions[named(base)["$ref"].removeprefix("#/$defs/").replace("~1", "/")]
                    schema["properties"] = {**other["properties"], **schema["properties"]}
        else:
            schema = _Type(ALIAS.search(text)[1], named).read()
        definitions[path] = schema
    return _reference(path.replace("/", "~1"))


class _Type:
    """Reads a type: names, literals, unions, `Array<...>`, objects, and maps."""

    def __init__(self, text, named):
        self._tokens = [token for token in TOKEN.findall(text.strip()) if token.strip()]
        self._named = named

    def read(self) -> dict:
        options = [self._one()]
        while self._next("|"):
            options.append(self._one())
        if all("const" in option for option in options):
            return {"enum": [option["const"] for option in options]}
        return options[0] if len(options) == 1 else {"anyOf": options}

    def _next(self, token: str) -> bool:
        if self._tokens and self._tokens[0] == token:
            self._tokens.pop(0)
            return True
        return False

    def _one(self) -> dict:
        token = self._tokens.pop(0)
        if token == "{":
            return self._object()
        if token == "Array":
            assert self._next("<")
            items = self.read()
            assert self._next(">")
            return {"type": "array", "items": items}
        if token.startswith('"'):
            return {"const": json.loads(token)}
        if token in PRIMITIVES:
            return {"type": PRIMITIVES[token]}
        return {"type": "null"} if token == "null" else self._named(token)

    def _object(self) -> dict:
        properties, required = {}, []
        while not self._next("}"):
            if self._next("["):  # [key: string]: TYPE
                while not self._next("]"):
                    self._tokens.pop(0)
                assert self._next(":")
                others = self.read()
                assert self._next(";")
                assert self._next("}")
                return {"type": "object", "additionalProperties": others}
            name = json.loads(self._tokens.pop(0))
            if not self._next("?"):
                required.append(name)
            assert self._next(":")
            properties[name] = self.read()
            assert self._next(";")
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }


# --- classes of Python, as OpenAPI Generator writes them


def _of_python(archive: zipfile.ZipFile, name: str, definitions: dict[str, dict]) -> dict:
    if name not in definitions:
        definitions[name] = ANYTHING
        text = _classes(archive).get(name)
        if text is None:  # it is not in the package
            return ANYTHING
        tables = _tables(text)
        types, names = tables["openapi_types"], tables["attribute_map"]
        properties = {names[key]: _python_type(archive, types[key], definitions) for key in types}
        definitions[name] = {"type": "object", "properties": properties, "additionalProperties": False}
    return _reference(name)


@functools.cache
def _classes(archive: zipfile.ZipFile) -> dict[str, str]:
    """The source of each class, by its name."""
    names = (name for name in archive.namelist() if name.startswith("kserve/models/"))
    texts = (archive.read(name).decode() for name in names)
    return {found[1]: text for text in texts if (found := re.search(r"^class (\w+)\(object\)", text, re.M))}


def _tables(text: str) -> dict[str, dict[str, str]]:
    (made,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in made.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
    }


def _python_type(archive: zipfile.ZipFile, text: str, definitions: dict[str, dict]) -> dict:
    if text in OF_PYTHON:
        return {"type": OF_PYTHON[text]}
    if text.startswith("list["):
        return {"type": "array", "items": _python_type(archive, text[5:-1], definitions)}
    if text.startswith("dict(str, "):
        return {"type": "object", "additionalProperties": _python_type(archive, text[10:-1], definitions)}
    if re.match(r"V1(alpha|beta)\d", text):
        return _of_python(archive, text, definitions)
    if text == "V1Time":
        return {"type": "string"}
    if text.startswith("V1"):
        wanted = text.removeprefix("V1")
        return _kubernetes("v1.ObjectMeta" if wanted == "ObjectMeta" else f"core.v1.{wanted}")
    return ANYTHING  # quantities and times
