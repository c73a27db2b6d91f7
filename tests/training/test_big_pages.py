import json
import os
import platform
import subprocess
import sys

import pytest

import big_pages

PROGRAM = """
import json, os, resource, sys
sys.path.insert(0, {folder!r})
if {restart}:
    from big_pages import restart_with_big_pages
    restart_with_big_pages()
import torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
x = torch.ones(2**22)
for step in range(4):
    before = faults()
    y = [x + 1 for _ in range(8)]
    del y
print(json.dumps([faults() - before, sys.argv[1:]]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's settings")
def test_restarted_program_has_its_arguments_and_few_page_faults():
    folder = os.path.dirname(big_pages.__file__)
    told = (big_pages.VARIABLE, "MALLOC_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(told)}
    counts = []
    for restart in (False, True):
        program = PROGRAM.format(folder=folder, restart=restart)
        run = subprocess.run(
            [sys.executable, "-c", program, "a b", "--c"],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        faults, arguments = json.loads(run.stdout)
        assert arguments == ["a b", "--c"]
        counts.append(faults)
    if counts[0] < 100:
        pytest.skip("this kernel gives big pages to whoever asks for memory")
    assert counts[1] < counts[0] / 10
