"""Every figure's JSON names a commit that anybody can check out."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def git(*words):
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def commits(found):
    """Every commit that a JSON names, at any depth."""
    if isinstance(found, dict):
        if "commit" in found:
            yield found["commit"]
        found = list(found.values())
    if isinstance(found, list):
        for part in found:
            yield from commits(part)


def test_commits_are_found_at_any_depth():
    rows = {"rows": {"a": {"commit": "1"}, "b": [{"commit": "2", "rows": []}]}}
    assert list(commits(rows)) == ["1", "2"]


def test_results_were_measured_at_commits_of_this_repository():
    files = git("ls-files", "*.json")
    if files is None or git("rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("the repository's history is not here")
    named = {file: list(commits(json.loads((ROOT / file).read_text()))) for file in files.split()}
    history = set(git("rev-list", "HEAD").split())
    assert sum(map(len, named.values())) > 20
    unknown = {file for file, found in named.items() if not set(found) <= history}
    assert unknown == set()
