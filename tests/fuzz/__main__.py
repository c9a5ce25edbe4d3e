"""`python -m tests.fuzz NAME --seconds N`: fuzz one reader; what it finds lies in tests/fuzz/corpus/NAME.

What else stands on the line goes to libFuzzer as it is: `-timeout=60`, or folders of inputs. After a long run with
`--grown GROWN`, `--grown SMALL -merge=1 GROWN` leaves in SMALL the fewest inputs that reach as much, and
`zip -jq tests/fuzz/reached/NAME.zip SMALL/*` keeps them for every later run.
"""

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

import atheris
import structlog


def main() -> None:
    """Fuzz until the time is over, or until an input is more than a refusal: that one is kept."""
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz")
    asked.add_argument("name")
    asked.add_argument("--seconds", type=int, default=60)
    asked.add_argument("--grown", type=Path, help="keep what reaches new code here; else it is forgotten")
    options, more = asked.parse_known_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with atheris.instrument_imports(include=["convoy"]):
        from tests.fuzz import targets

        target = targets.TARGETS[options.name]
        for seed in target.seeds():  # loads what the reader loads when it is first used
            targets.tried(target, seed)
    found = targets.CORPUS / options.name
    found.mkdir(parents=True, exist_ok=True)
    grown = options.grown or Path(tempfile.mkdtemp(prefix=f"fuzz-{options.name}-"))
    grown.mkdir(parents=True, exist_ok=True)
    for place, seed in enumerate((*target.seeds(), *targets.reached(options.name))):
        (grown / f"seed-{place}").write_bytes(seed)
    flags = [f"-max_total_time={options.seconds}", "-timeout=5", "-rss_limit_mb=2048", "-max_len=65536"]
    flags += [f"-artifact_prefix={found}{os.sep}", "-print_final_stats=1", "-verbosity=0"]
    again = f"{sys.executable} -m tests.fuzz {options.name}"  # how libFuzzer starts itself anew, for -merge=1
    atheris.Setup([again, *flags, str(grown), str(found), *more], lambda data: targets.tried(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
