"""The way a nightly job goes, whole: S3, a Ray head with a token, `ray job submit`, the report; and once more."""

import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest

from jobs import demo


def s3_servers():
    return {child.pid for child in psutil.Process().children(recursive=True) if "weed" in child.name()}


@pytest.fixture
def own_folder(monkeypatch):
    """A temporary folder with a name that no other demo has, and a short one, since Ray's sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield folder


def run_here(environment, command):
    """The job's command without a cluster."""
    packshot = Path(sys.executable).with_name(command[0])
    return subprocess.run([packshot, *command[1:]], env=environment).returncode


def test_demo_publishes_writes_its_report_and_stops_what_it_started(tmp_path, capfd, own_folder, monkeypatch):
    before = s3_servers()

    code = demo.run_demo(tmp_path / "demo", items=2)

    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert code in (0, 1)  # 1 where one bad row of four is over the budget
    assert "planned" in page
    assert s3_servers() == before
    assert subprocess.run(["pgrep", "-f", f"gcs_server.*{own_folder}/packshot-"], capture_output=True).returncode == 1
    first = capfd.readouterr()
    assert "rendered 4 of 4 after" in first.out + first.err

    # there is nothing to do, so the second needs no Ray; its start and `ray job submit` are proved above
    monkeypatch.setattr(demo, "_ray_head", lambda log: nullcontext(dict(os.environ)))
    monkeypatch.setattr(demo, "_submit", run_here)
    demo.run_demo(tmp_path / "demo", items=2)

    second = capfd.readouterr()
    assert "nothing to do" in second.out + second.err
