"""The places in which state may be kept, each started for the tests that every one of them has to pass."""

import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest


def postgres_bin():
    """Return the folder of PostgreSQL's programs; None if it is not installed."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


class Postgres:
    """A PostgreSQL of our own, run as a user that it accepts, on a socket in its folder."""

    def __init__(self, programs, folder):
        self.programs, self.folder = programs, folder

    def run(self, program, *arguments):
        """Run one of its programs, as the user postgres."""
        as_user = ["runuser", "-u", "postgres", "--"] if Path("/root").owner() == Path.home().owner() else []
        command = [*as_user, str(self.programs / program), "-D", str(self.folder / "data"), *arguments]
        with (self.folder / "output").open("ab") as output:  # a server that stays must not hold our pipe
            subprocess.run(command, check=True, stdout=output, stderr=output, cwd="/", timeout=60)

    def start(self):
        """Start the server, and return when it answers."""
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self.run("pg_ctl", "start", "-w", "-o", options)

    def stop(self):
        """Stop the server at once, as a crash would."""
        self.run("pg_ctl", "stop", "-w", "-m", "immediate")

    def database(self):
        """Make an empty database and return its URL."""
        import psycopg

        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"


@pytest.fixture(scope="session")
def postgres():
    """A running PostgreSQL; without one, or without its driver, the test is skipped."""
    pytest.importorskip("psycopg", reason="psycopg, the driver of PostgreSQL, is not installed")
    programs = postgres_bin()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="convoy-pg-"))
    server = Postgres(programs, folder)
    try:
        shutil.chown(folder, "postgres")
        server.run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8")
        server.start()
    except (LookupError, PermissionError, OSError, subprocess.SubprocessError) as problem:
        shutil.rmtree(folder)
        pytest.skip(f"PostgreSQL does not start here: {problem}")
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """The URL of an empty database, one of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    return request.getfixturevalue("postgres").database()
