import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pytest

from pipelines import catalogue
from pipelines.errors import ConfigError
from pipelines.executors.placement import GPU, LOCAL, block_rows, fitted
from pipelines.graph import Graph, build, first_change
from pipelines.stages.detect import Detect
from pipelines.stages.mask import Mask
from pipelines.stages.segment import Segment
from tests.fakes import a_graph, a_recipe

ALL = ["detect", "segment", "mask", "paint", "compose", "score", "judge", "deliver"]


def keys(tmp_path, row=(), **sections):
    recipe = a_recipe(tmp_path, **sections)
    table = pa.table(
        {
            name: [value]
            for name, value in {
                "sku": "a",
                "image": "a.png",
                "category": "mug",
                "colour": "red",
                "price": "1",
                **dict(row),
            }.items()
        }
    )
    (made,) = catalogue.rows(recipe, table, str(tmp_path), {str(tmp_path / "a.png"): "v1"})
    return build(recipe).node_keys(made)


def changed(before, after):
    return [name for name in ALL if before[name] != after[name]]


def test_node_out_of_order_is_refused_with_the_missing_columns(tmp_path):
    nodes = build(a_recipe(tmp_path)).nodes

    with pytest.raises(ConfigError, match=r"'segment' reads \['boxes_xyxy'\]"):
        Graph((nodes[0], nodes[2], nodes[1], *nodes[3:]))


class SegmentOfInt8(Segment):
    reads = {**Segment.reads, "boxes_xyxy": pa.list_(pa.list_(pa.int8(), 4))}


class MaskThatMayReadText(Mask):
    may_read = {**Mask.may_read, "finished_bytes": pa.string()}


class DetectOfWords(Detect):
    reads = {**Detect.reads, "find_prompt": pa.list_(pa.string())}


@pytest.mark.parametrize(
    ("name", "stage", "told"),
    [
        ("segment", SegmentOfInt8, r"'segment' reads 'boxes_xyxy' as .*int8.*, and what is there is .*float"),
        (
            "mask.2",
            MaskThatMayReadText,
            r"'mask.2' reads 'finished_bytes' as string, and what is there is large_binary",
        ),
        ("detect.2", DetectOfWords, r"'detect.2' reads 'find_prompt' as list<.*>, and what is there is string"),
    ],
)
def test_a_column_that_is_read_as_another_type_is_refused(tmp_path, name, stage, told):
    words = {"prompts": {"find": "{category}", "paint": "a {category}"}}
    nodes = a_graph(a_recipe(tmp_path, steps=[words, words])).nodes

    with pytest.raises(ConfigError, match=told):
        Graph(tuple(replace(node, stage=stage) if node.name == name else node for node in nodes))


def test_a_column_of_a_later_step_is_compared_at_the_nodes_that_see_it(tmp_path):
    class MaskThatMakesText(Mask):
        adds = {**Mask.adds, "regions_xyxy": pa.string()}

    words = {"prompts": {"find": "{category}", "paint": "a {category}"}}
    nodes = a_graph(a_recipe(tmp_path, steps=[words, words])).nodes

    with pytest.raises(ConfigError, match=r"'paint.2' reads 'regions_xyxy.2' as list<.*>, and what is there is string"):
        Graph(tuple(replace(node, stage=MaskThatMakesText) if node.name == "mask.2" else node for node in nodes))


def test_price_that_no_setting_names_changes_no_key(tmp_path):
    assert changed(keys(tmp_path), keys(tmp_path, {"price": "2"})) == []


def test_changed_threshold_leaves_everything_before_judge_alone(tmp_path):
    assert changed(keys(tmp_path), keys(tmp_path, judge={"min_text_similarity": 0.5})) == ["judge", "deliver"]


def test_another_quality_encodes_anew_and_paints_nothing(tmp_path):
    words = {"prompts": {"find": "{category}", "paint": "a {category}"}, "paint": {"variants": 1}}

    for chain in ({}, {"steps": [words, words]}):
        before, after = keys(tmp_path, **chain), keys(tmp_path, **chain, deliver={"quality": 80})
        assert [name for name in before if before[name] != after[name]] == ["deliver"]
        assert keys(tmp_path, **chain, deliver={"quality": 95}) == before


def test_keeping_all_judges_anew_and_paints_nothing(tmp_path):
    assert changed(keys(tmp_path), keys(tmp_path, judge={"keep": "all"})) == ["judge", "deliver"]


def test_changed_paint_word_changes_paint_and_what_follows(tmp_path):
    assert changed(keys(tmp_path), keys(tmp_path, {"colour": "blue"})) == ALL[ALL.index("paint") :]


def test_changed_find_word_changes_everything(tmp_path):
    assert changed(keys(tmp_path), keys(tmp_path, {"category": "cup"})) == ALL


def test_read_limits_enter_no_key(tmp_path):
    assert changed(keys(tmp_path), keys(tmp_path, read={"max_bytes": 10})) == []


def test_other_weights_change_their_node(tmp_path):
    before = keys(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"other weights")

    assert changed(before, keys(tmp_path)) == ALL


def test_pixels_version_changes_its_node(tmp_path, monkeypatch):
    before = keys(tmp_path)
    compose = build(a_recipe(tmp_path)).nodes[5].stage
    monkeypatch.setattr(compose, "pixels_version", compose.pixels_version + 1)

    assert changed(before, keys(tmp_path)) == ALL[ALL.index("compose") :]


def test_item_that_stopped_is_compared_up_to_there():
    old = {"detect": "1", "segment": "2", "paint": "3"}

    assert first_change(old, {"detect": "1", "segment": "2", "paint": "9"}, "segment") is None
    assert first_change(old, {"detect": "1", "segment": "2", "paint": "9"}, None) == "paint"
    assert first_change({}, {"detect": "1"}, None) == "detect"


@pytest.mark.parametrize(
    ("node", "start"),
    [
        ("detect", "detect"),
        ("segment", "detect"),
        ("mask", "mask"),
        ("paint", "mask"),
        ("compose", "mask"),
        ("score", "score"),
        ("judge", "judge"),
        ("deliver", "judge"),
    ],
)
def test_start_is_the_last_resumable_node_at_or_before_the_change(tmp_path, node, start):
    assert build(a_recipe(tmp_path)).start_for(node) == start


def test_row_that_starts_late_passes_earlier_nodes_but_read(tmp_path):
    graph = build(a_recipe(tmp_path))

    passed = [node.name for node in graph.nodes if graph.passes_by(node.name)({"start_at": "score"})]

    assert passed == ["detect", "segment", "mask", "paint", "compose"]


def test_edge_holds_what_later_nodes_read_and_what_the_manifest_keeps(tmp_path):
    graph = build(a_recipe(tmp_path))

    after_mask = set(graph.edge_schema("mask").names)

    assert {"image_bytes", "region_rgb", "allow_mask_rle", "boxes_xyxy", "reference_bytes"} <= after_mask
    assert not {"given_image_bytes", "variant_crops"} & after_mask
    assert set(graph.edge_schema("deliver").names) == set(graph.manifest_schema().names)


def test_shipped_placements_place_every_node_once_in_order(tmp_path):
    graph = a_graph(a_recipe(tmp_path))

    assert [name for group in fitted(LOCAL, graph) for name in group.nodes] == ["read", *ALL]
    assert [name for group in fitted(GPU, graph) for name in group.nodes] == ["read", *ALL]
    assert block_rows(GPU) % 16 == 0


def test_importing_pipelines_loads_neither_torch_nor_ray():
    code = (
        "import sys, pipelines, pipelines.night.run, pipelines.report; "
        "sys.exit(bool({'torch', 'ray'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("sections", "starts"),
    [
        ({}, ("detect", "mask", "score", "judge")),
        ({"score": {"segmenter": "W"}}, ("detect", "mask", "judge")),  # it reads region_rgb, which nobody stores
        ({"paint": {"task": "background"}, "score": {"segmenter": "W"}}, ("detect", "mask")),
        ({"paint": {"task": "restyle"}}, ("mask", "score", "judge")),
        ({"find": {"by": "clip"}}, ("find", "mask", "score", "judge")),
    ],
)
def test_starts_are_the_nodes_behind_which_all_that_is_read_is_stored_or_fetched(tmp_path, sections, starts):
    a_recipe(tmp_path)
    weights = str(tmp_path / "weights.safetensors")
    named = {name: {k: weights if v == "W" else v for k, v in section.items()} for name, section in sections.items()}

    assert build(a_recipe(tmp_path, **named)).starts == starts
