"""The house rules that no linter knows: labels, sizes, generated code, revisions, and what no file may name."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from convoy.flows import catalog
from convoy.store import ledger, tables
from convoy.wire import convoy_pb2, pods_pb2

PROTOS = (convoy_pb2, pods_pb2)
ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "convoy"
ROW = re.compile(r"^\| `(src/convoy/[^`]+)` \| (.+) \|$", re.MULTILINE)


def source_files(*suffixes):
    """Yield every file of the package that people wrote."""
    for file in sorted(PACKAGE.rglob("*")):
        if file.suffix in suffixes and "_pb2" not in file.name and "__pycache__" not in file.parts:
            yield file


def named(file):
    return file.relative_to(ROOT).as_posix()


def label_of(file):
    """Return what line one says of a file; None if it says nothing."""
    first, *rest = file.read_text().splitlines() or [""]
    if file.suffix == ".proto":
        return first.removeprefix("// ") if first.startswith("// ") else None
    if not first.startswith('"""'):
        return None
    text = first.removeprefix('"""')
    if text.endswith('"""'):
        return text.removesuffix('"""')
    return text if rest and not rest[0].strip() else None  # more may follow after an empty line


def described():
    """Return the files that have something to say; an empty `__init__.py` has not."""
    return [file for file in source_files(".py", ".proto") if file.read_text().strip()]


def test_every_file_begins_with_a_label_of_one_line():
    assert [named(file) for file in described() if not label_of(file)] == []


def test_every_file_has_its_row_in_the_architecture_page_and_no_row_is_without_its_file():
    wanted = {named(file): (label_of(file) or "").replace("|", "\\|") for file in described()}
    rows = ROW.findall((ROOT / "ARCHITECTURE.md").read_text())
    found = dict(rows)
    assert len(found) == len(rows), "a file has two rows"
    missing = [f"| `{path}` | {label} |" for path, label in wanted.items() if path not in found]
    extra = sorted(found.keys() - wanted.keys())
    other = [f"{path}: {found[path]!r}" for path, label in wanted.items() if found.get(path, label) != label]
    assert not missing, "ARCHITECTURE.md lacks\n" + "\n".join(missing)
    assert not extra, f"ARCHITECTURE.md has rows of files that are not there: {extra}"
    assert not other, "ARCHITECTURE.md says otherwise than line one of\n" + "\n".join(other)


def test_the_stack_in_the_architecture_page_is_the_one_that_import_linter_holds():
    import tomllib

    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    page = (ROOT / "ARCHITECTURE.md").read_text()
    drawn = page.split("```text\n", 1)[1].split("```", 1)[0]
    assert [re.split(r"  +", line)[0].strip() for line in drawn.splitlines()] == contract["layers"]


def test_no_file_is_longer_than_400_lines():
    sizes = {named(file): len(file.read_text().splitlines()) for file in source_files(".py", ".proto")}
    assert {name: size for name, size in sizes.items() if size > 400} == {}


def test_no_function_is_longer_than_60_lines():
    long = []
    for file in source_files(".py"):
        if file.parent.name == "revisions":
            continue  # a revision is a list of tables that nobody may change any more
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > 60:
                    long.append(f"{named(file)}:{node.lineno} {node.name}: {lines} lines")
    assert long == []


@pytest.mark.parametrize("made", PROTOS, ids=lambda made: made.DESCRIPTOR.name)
def test_the_generated_messages_are_those_of_the_proto_file(made, tmp_path):
    pytest.importorskip("grpc_tools", reason="grpc_tools is not installed: it comes with the extra `dev`")
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

    out = tmp_path / "set.pb"
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-I.",
        f"--descriptor_set_out={out}",
        made.DESCRIPTOR.name,
    ]
    subprocess.run(command, cwd=ROOT / "src", check=True)
    (wanted,) = FileDescriptorSet.FromString(out.read_bytes()).file
    committed = FileDescriptorProto.FromString(made.DESCRIPTOR.serialized_pb)
    assert without_json_names(committed) == without_json_names(wanted), "a .proto has changed: make proto"


def without_json_names(file):
    """Return a descriptor without the names that protoc adds only when it writes a descriptor set."""

    def strip(message):
        for field in message.field:
            field.ClearField("json_name")
        for inner in message.nested_type:
            strip(inner)

    for message in file.message_type:
        strip(message)
    return file


@pytest.mark.parametrize("made", PROTOS, ids=lambda made: made.DESCRIPTOR.name)
def test_the_typed_face_of_the_messages_names_the_same_messages_and_fields(made):
    tree = ast.parse(Path(made.__file__).with_suffix(".pyi").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    assert set(classes) == set(made.DESCRIPTOR.message_types_by_name)
    for name, message in made.DESCRIPTOR.message_types_by_name.items():
        typed = {node.target.id for node in classes[name].body if isinstance(node, ast.AnnAssign)}
        assert {field.name for field in message.fields} <= typed, name


def shape(engine):
    """Return what a database says of its tables."""
    inspector = sa.inspect(engine)
    return {
        table: {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in inspector.get_columns(table)
            },
            "order": [column["name"] for column in inspector.get_columns(table)],
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "foreign": inspector.get_foreign_keys(table),
            "unique": inspector.get_unique_constraints(table),
            "indexes": inspector.get_indexes(table),
        }
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def test_the_ledgers_revisions_make_the_tables_that_the_code_knows(tmp_path):
    shapes = []
    for name in ("revisions", "metadata"):
        engine = sa.create_engine(ledger.sqlite_url(tmp_path / f"{name}.sqlite"))
        with engine.begin() as connection:
            if name == "revisions":
                ledger.upgrade(connection, None)
                version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
                assert version == ledger.HEAD
            else:
                tables.METADATA.create_all(connection)
        shapes.append(shape(engine))
        engine.dispose()
    assert shapes[0] == shapes[1]


FOREIGN = re.compile(  # put together here, so that this file does not hold what it looks for
    "|".join(
        [
            *("".join(parts) for parts in (("py", r"pi\.", "org"), ("pythonho", "sted"), ("arti", "factory"))),
            *("".join(parts) for parts in (("j", r"frog\."), ("index", r"-url"), ("find", r"-links"))),
            r"(?<![\w.)}>*-])/(?:" + "|".join(("ho" + "me", "Us" + "ers", "ro" + "ot", "wo" + "rk")) + r")/[\w.]",
        ]
    )
)


def test_no_file_names_a_package_registrys_host_or_a_path_of_one_machine():
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError) as problem:
        pytest.skip(f"git does not list the files: {problem}")
    found = []
    for name in filter(None, listed):
        file = ROOT / name
        if not file.is_file():
            continue  # deleted in the working tree
        try:
            lines = file.read_text().splitlines()
        except UnicodeDecodeError:
            continue  # a picture
        found += [f"{name}:{place}: {hit[0]}" for place, line in enumerate(lines, 1) if (hit := FOREIGN.search(line))]
    assert found == []


def test_no_test_imports_from_the_benchmarks():
    tests = sorted((ROOT / "tests").rglob("*.py"))
    wanted = re.compile(r"^\s*(?:from|import) bench\b", re.MULTILINE)
    assert [named(file) for file in tests if wanted.search(file.read_text())] == []


def test_a_workflow_is_loaded_without_the_others():
    code = "import sys; from convoy.flows import catalog; catalog.built_in('fedavg'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = {f"convoy.flows.{entry.module}" for entry in catalog.BUILT_IN.values()} - {"convoy.flows.fedavg"}
    assert not others & {*done.stdout.split()}


def test_importing_convoy_pulls_in_no_heavy_library():
    code = "import sys, convoy; print(*({'grpc', 'starlette', 'pydantic', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
