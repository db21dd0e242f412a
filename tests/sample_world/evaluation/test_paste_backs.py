import io

from rich.console import Console

from pipelines.pixels.paste_backs import OutsideChange
from sample_world.evaluation.paste_backs import as_facts, as_table


def test_all_sizes_stand_beside_each_other():
    some = [
        OutsideChange("a tool", (1.0,), 9, 3.0),
        OutsideChange("Packshot", (0.0,), 0, 0.0),
        OutsideChange("another", (), 0, 0.0),
    ]
    console = Console(record=True, width=240, file=io.StringIO())

    console.print(as_table({"128 x 128": some, "1600 x 2000": some}))

    shown = console.export_text()
    assert "1600 x 2000: changed outside" in shown
    assert "100.00% (100.00% to 100.00%, n = 1)" in shown
    assert "9 levels" in shown
    assert "3 px" in shown
    assert "no picture" in shown


def test_facts_for_json_have_the_share_with_its_interval():
    (facts,) = as_facts([OutsideChange("a tool", (0.5, 0.5), 9, 3.0)])

    share = {"value": 0.5, "low": 0.5, "high": 0.5, "n": 2}
    assert facts == {"tool": "a tool", "share": share, "largest": 9, "reach_px": 3.0}
