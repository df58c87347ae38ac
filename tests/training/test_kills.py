"""A run that SIGKILL ends again and again, also inside saves, is the run that nothing stopped."""

import json
import subprocess
import sys


def test_five_kills_change_nothing(root, tmp_path):
    result = tmp_path / "result.json"
    flags = {"kills": 5, "in_save": 3, "kills_a_run": 5, "steps": 200, "pause": 8, "json": result}
    done = subprocess.run(
        [sys.executable, "experiments/faults/kill.py", *(f"--{k}={v}" for k, v in flags.items())],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(result.read_text())
    assert found["kills"] == 5
    assert found["in_save"] >= 3
    assert found["equal"] == found["runs"]
