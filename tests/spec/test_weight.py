"""What an idle node loads of these rooms: nothing heavy."""

import subprocess
import sys


def test_reading_a_kit_and_its_settings_loads_neither_pydantic_nor_cryptography():
    code = """
import sys
import convoy.spec.kit, convoy.spec.settings, convoy.spec.policy, convoy.trust.federation, convoy.trust.bundle
heavy = {"pydantic", "cryptography", "numpy", "sqlalchemy", "grpc"} & set(sys.modules)
sys.exit(f"loaded {sorted(heavy)}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
