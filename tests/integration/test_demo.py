"""The way a nightly job goes, whole: S3, a Ray head with a token, `ray job submit`, the report; and once more."""

import subprocess
import tempfile

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


def test_demo_publishes_writes_its_report_and_stops_what_it_started(tmp_path, capfd, own_folder):
    before = s3_servers()

    code = demo.run_demo(tmp_path / "demo", items=4)

    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert code in (0, 1)  # 1 where one bad row of six is over the budget
    assert "planned" in page
    assert s3_servers() == before
    assert subprocess.run(["pgrep", "-f", f"gcs_server.*{own_folder}/packshot-"], capture_output=True).returncode == 1
    first = capfd.readouterr()
    assert "rendered 6 of 6 after" in first.out + first.err

    demo.run_demo(tmp_path / "demo", items=4)

    second = capfd.readouterr()
    assert "nothing to do" in second.out + second.err
