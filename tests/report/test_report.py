import base64
import json
import math
import resource
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines import recipe, storage
from pipelines.errors import InfrastructureError
from pipelines.graph import build
from pipelines.night import manifest
from pipelines.pixels.crops import context_region, cut
from pipelines.pixels.images import decode, encode
from pipelines.pixels.masks import grow, to_rle
from pipelines.report import summary, write_report
from pipelines.report.choose import Choice
from pipelines.report.counts import COLUMNS
from pipelines.report.pictures import Reader
from pipelines.rows import REASONS, Row, to_table
from sample_world.drawing.scenes import CATALOGUE_SEED, caption, scene

RECIPE = recipe.load("replace")
SCHEMA = build(RECIPE).manifest_schema()
NODES = ("read", "detect", "segment", "mask", "paint", "compose", "score", "judge", "deliver")
VARIANT_COLUMNS = ("variant_seeds", "variant_scores", "variant_kept", "variant_reasons", "crop_uris", "image_uris")


# --- made-up nights


def a_row(key: str, status: str = "ok", **known: Any) -> dict[str, Any]:
    """A row without pictures: two variants, one of them kept, as a finished item has them."""
    scores = [{"text_similarity": 0.31, "reference_similarity": None, "ring_error": 4.0}]
    scores += [{"text_similarity": 0.12, "reference_similarity": None, "ring_error": 6.0}]
    variants = {
        "variant_seeds": [7, 8],
        "variant_scores": scores,
        "variant_kept": [True, False],
        "variant_reasons": [None, "low_text_similarity"],
        "changed_outside": [0, None],
        "regions_xyxy": [[0, 0, 64, 64]],
    }
    return {
        "item_key": key,
        "status": status,
        "attempts": 0,
        "find_prompt": "shirt",
        "paint_prompts": ["a red shirt", "a red shirt"],
        "seconds": dict.fromkeys(NODES, 0.5),
        "source_uri": f"/nowhere/{key}.png",
        "size_wh": [64, 64],
        **(variants if status == "ok" else {}),
        **known,
    }


def a_failed_row(key: str, reason: str = "truncated_image", detail: str = "the JPEG file of 9 bytes") -> dict[str, Any]:
    return a_row(key, "failed", reason=reason, detail=detail, node="read", seconds={"read": 0.1})


def a_night(
    folder: Path, rows: list[Row] | list[pa.Table], planned: int | None = None, **facts: Any
) -> manifest.Published:
    """A published run of these rows, or of these tables, a file each."""
    uri = manifest.run_uri(str(folder), 42)
    tables = [row if isinstance(row, pa.Table) else None for row in rows]
    tables = tables if tables and tables[0] is not None else [to_table(rows, SCHEMA)]
    files = [
        manifest.write_file(uri, f"items/{number:05d}.parquet", manifest.items_table(table))
        for number, table in enumerate(tables)
    ]
    told = {
        "catalogue": "s3://shop/catalogue.parquet",
        "recipe": RECIPE.model_dump(mode="json"),
        "sample_world_only": True,
        "checkpoints": [{"node": "detect", "uri": "embedded:detector", "revision": None, "sha256": "ab12"}],
        "counts": {
            "planned": sum(len(table) for table in tables) if planned is None else planned,
            "keep": 3,
            "rendered": 10,
        },
        "seconds": {"plan": 2.0, "run": 60.0},
        "node_seconds": {"read": 4.6, "deliver": 4.5},
        "finished_at": "2026-11-21T05:12:00Z",
        "files": files,
        "notes": [],
    }
    manifest.publish(uri, {**told, **facts})
    return manifest.open_run(str(folder), 42)


def a_painted_row(folder: Path, seed: int, size_wh: tuple[int, int] = (512, 512), kept: int = 2) -> dict[str, Any]:
    """A row with pictures on disk: a sample scene whose first product has its colours turned round, four times."""
    drawn = scene(CATALOGUE_SEED + seed, size_wh)
    thing = drawn.objects[seed % len(drawn.objects)]
    allow = grow(thing.mask, 3)
    region = context_region(allow, 256)
    source_uri = _put(folder / "catalogue" / f"{seed}.jpg", encode(drawn.rgb, "jpeg"))
    tints = [np.roll(drawn.rgb, 1, 2), np.roll(drawn.rgb, 2, 2), 255 - drawn.rgb, drawn.rgb // 2]
    painted = [np.where(allow[..., None], tint, drawn.rgb).astype(np.uint8) for tint in tints]
    likeness = [0.34, 0.29, 0.25, 0.11] if kept else [0.15, 0.12, 0.11, 0.08]
    reasons = [None, None, "not_among_best", "low_text_similarity"] if kept else ["low_text_similarity"] * 4
    scores = [
        {"text_similarity": score - seed / 1000, "reference_similarity": None, "ring_error": 5.0 + seed}
        for score in likeness
    ]
    outcome = {} if kept else {"status": "rejected", "reason": "nothing_kept", "node": "deliver"}
    return {
        **a_row(f"SKU-{1000 + seed}"),
        **outcome,
        "source_uri": source_uri,
        "size_wh": list(size_wh),
        "find_prompt": thing.category,
        "paint_prompts": [f"{caption(thing)}, studio photo"] * 4,
        "boxes_xyxy": [list(thing.box_xyxy)],
        "box_scores": [0.91],
        "box_labels": [thing.category],
        "allow_mask_rle": to_rle(allow),
        "regions_xyxy": [list(region)],
        "variant_seeds": [seed * 10_000_000_000 + variant for variant in range(4)],
        "variant_scores": scores,
        "variant_kept": [reason is None for reason in reasons],
        "variant_reasons": reasons,
        "changed_outside": [0 if reason is None else None for reason in reasons],
        "crop_uris": [
            _put(folder / "crops" / f"{seed}-{variant}.png", encode(cut(rgb, region, 256), "png"))
            for variant, rgb in enumerate(painted)
        ],
        "image_uris": [
            _put(folder / "images" / f"{seed}-{variant}.png", encode(rgb, "png")) if reasons[variant] is None else None
            for variant, rgb in enumerate(painted)
        ],
        "seconds": {node: 0.01 * 2**number for number, node in enumerate(NODES)},
    }


def _put(path: Path, data: bytes) -> str:
    storage.write(str(path), data)
    return str(path)


def _many_rows(count: int) -> list[pa.Table]:
    """Rows by the column and in bulk, since 200,000 dicts take longer than what is tested."""
    block = [
        a_failed_row("x") if number % 50 == 0
        else a_row("x", "rejected", reason="nothing_found", node="detect", boxes_xyxy=[]) if number % 10 == 0
        else a_row("x", allow_mask_rle={"size": [64, 64], "counts": "PP3" * 20})
        for number in range(20_000)
    ]  # fmt: skip
    table = to_table(block, SCHEMA)
    return [
        table.set_column(
            table.schema.get_field_index("item_key"),
            SCHEMA.field("item_key"),
            pa.array([f"SKU-{number}" for number in range(start, start + len(table))]),
        )
        for start in range(0, count, len(table))
    ]


class Page(HTMLParser):
    """What a page consists of: its text, pictures, links, and each item's words."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.articles: list[str] = []
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag == "article":
            self.articles.append("")
        if tag == "img":
            self.pictures.append(found["src"] or "")
        if tag == "a":
            self.links.append(found["href"] or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.articles:
            self.articles[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


# --- what the page says


def test_run_without_rows_still_gives_a_page(tmp_path: Path) -> None:
    page = Page(write_report(a_night(tmp_path, []), tmp_path / "report.html"))

    assert "0 of 0 items are delivered" in page.text
    assert "There is no item to show." in page.text


def test_totals_stand_as_an_equation_that_is_checked(tmp_path: Path) -> None:
    rows = [
        a_row("a"),
        a_row("b", "rejected", reason="nothing_found", node="detect"),
        a_failed_row("c"),
        a_row("d", "pending"),
    ]

    page = Page(write_report(a_night(tmp_path, rows), tmp_path / "report.html"))

    assert "4 planned = 1 delivered + 1 rejected + 1 failed + 1 pending" in page.text
    assert "it adds up" in page.text


def test_totals_that_do_not_add_up_are_said_first(tmp_path: Path) -> None:
    published = a_night(tmp_path, [a_row("a")], planned=2)

    page = Page(write_report(published, tmp_path / "report.html"))

    assert not summary(published)["adds_up"]
    assert "The counts do not add up." in page.text


def test_reasons_are_sentences_with_a_next_step_and_never_bare_words(tmp_path: Path) -> None:
    rows = [a_row("a"), a_row("b", "rejected", reason="nothing_found", node="detect"), a_failed_row("c")]

    page = Page(write_report(a_night(tmp_path, rows), tmp_path / "report.html"))

    for word in ("nothing_found", "truncated_image", "low_text_similarity"):
        assert REASONS[word].next_step.replace("`", "") in page.text.replace(" .", ".")
        assert word not in page.text
    assert "It does not look enough like the prompt: 0.12, and the recipe asks for at least 0.20." in page.text
    assert "the JPEG file of 9 bytes" in page.text


def test_variant_shows_its_seed_scores_and_the_pixels_changed_outside(tmp_path: Path) -> None:
    page = Page(write_report(a_night(tmp_path, [a_row("a")]), tmp_path / "report.html"))

    assert "seed 7" in page.text
    assert "prompt likeness 0.31 edge mismatch 4.00" in page.text
    assert "0 pixels changed outside the mask" in page.text


def test_variants_have_the_manifest_s_numbers(tmp_path: Path) -> None:
    row = {**a_painted_row(tmp_path, 1)}
    row["image_uris"] = [None, row["image_uris"][1], None, None]

    page = Page(write_report(a_night(tmp_path, [row]), tmp_path / "report.html"))

    assert [number for number in range(5) if f"Variant {number}" in page.text] == [0, 1, 2, 3]
    assert "Delivered variant 1" in page.text


def test_what_the_judge_refused_was_refused_by_the_judge(tmp_path: Path) -> None:
    page = Page(write_report(a_night(tmp_path, [a_painted_row(tmp_path, 2, kept=0)]), tmp_path / "report.html"))

    assert "1 item rejected at judge" in page.text
    assert "Rejected at judge" in page.text
    assert "at deliver" not in page.text


def test_detail_of_a_failed_item_is_told_once(tmp_path: Path) -> None:
    uri = _put(tmp_path / "a.jpg", b"\xff\xd8\xff\xe0 123")
    detail = Reader()(uri)
    row = {**a_failed_row("a", detail=str(detail)), "source_uri": uri}

    page = Page(write_report(a_night(tmp_path, [row]), tmp_path / "report.html"))

    assert page.text.count(str(detail)) == 1
    assert "Source could not be shown. The detail above says why." in page.text


def test_recipe_without_scores_and_stages_that_did_nothing_are_not_given_figures(tmp_path: Path) -> None:
    none = {"text_similarity": None, "reference_similarity": None, "ring_error": None}
    row = a_row("a", variant_scores=[none, none], variant_reasons=[None, None])
    published = a_night(tmp_path, [row], node_seconds={"read": 1.0, "paint": 1e-6})

    page = Page(write_report(published, tmp_path / "report.html"))

    assert "This recipe measures no score." in page.text
    assert "Highest" not in page.text
    assert "0.000 s" not in page.text


def test_prompt_is_quoted_where_there_is_one(tmp_path: Path) -> None:
    said, silent = (
        Page(write_report(a_night(tmp_path / name, [a_row("a", paint_prompts=[words] * 2)]), tmp_path / f"{name}.html"))
        for name, words in (("said", "a red shirt"), ("silent", ""))
    )

    assert "“a red shirt”" in said.text
    assert "“”" not in silent.text


def test_changed_pixels_outside_are_summed_over_the_run_and_call_for_a_person(tmp_path: Path) -> None:
    rows = [a_row("a"), a_row("b", changed_outside=[5, None]), a_row("c", changed_outside=[7, None])]

    page = Page(write_report(a_night(tmp_path, rows), tmp_path / "report.html"))

    assert "12 pixels" in page.text
    assert "2 pictures changed outside their mask although the recipe is exact." in page.text


@pytest.mark.parametrize(("embedded", "times"), [(True, 1), (False, 0)])
def test_embedded_models_are_marked_as_good_for_the_sample_world_only(
    tmp_path: Path, embedded: bool, times: int
) -> None:
    page = Page(write_report(a_night(tmp_path, [a_row("a")], sample_world_only=embedded), tmp_path / "report.html"))

    assert page.text.count("Sample world only.") == times


def test_text_from_the_catalogue_cannot_become_markup(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>`<img src=x>`"
    rows = [
        a_row(hostile, find_prompt=hostile, source_uri=hostile, paint_prompts=[hostile] * 2),
        a_failed_row("b", detail=hostile),
    ]

    page = Page(write_report(a_night(tmp_path, rows, notes=[hostile]), tmp_path / "report.html"))

    assert "script" not in page.tags
    assert page.pictures == []
    assert hostile in page.texts


# --- pictures


def test_page_holds_source_mask_crops_and_delivered_pictures_and_loads_nothing(tmp_path: Path) -> None:
    published = a_night(tmp_path, [a_painted_row(tmp_path, 1), a_painted_row(tmp_path, 2, kept=0)])

    page = Page(write_report(published, tmp_path / "report.html"))

    # source, before and four crops each; one has a delivered picture as well
    assert len(page.pictures) == 2 * 6 + 1
    assert all(picture.startswith("data:image/") for picture in page.pictures)
    assert not {"link", "script"} & set(page.tags)
    assert "0.91" in page.text
    assert str(tmp_path / "images" / "1-0.png") in page.text


def test_source_is_shown_with_its_mask_and_box_drawn_on_it(tmp_path: Path) -> None:
    row = a_painted_row(tmp_path, 1, kept=0)
    uri = _put(tmp_path / "grey.png", encode(np.full((512, 512, 3), 128, np.uint8), "png"))
    page = Page(write_report(a_night(tmp_path, [{**row, "source_uri": uri}]), tmp_path / "report.html"))

    source, before = (decode(base64.b64decode(picture.partition(",")[2])).rgb for picture in page.pictures[:2])

    left, top, right, bottom = (round(edge) for edge in row["boxes_xyxy"][0])
    red, green, blue = source[top + 1, (left + right) // 2].astype(int)  # on the box's upper edge
    assert red - blue > 60
    red, green, blue = source[(top + bottom) // 2, (left + right) // 2].astype(int)  # within the mask
    assert red - green > 30
    assert np.ptp(before) < 4


def test_picture_that_cannot_be_fetched_leaves_a_labelled_gap(tmp_path: Path) -> None:
    row = a_painted_row(tmp_path, 1)
    (tmp_path / "crops" / "1-2.png").unlink()
    (tmp_path / "images" / "1-0.png").write_bytes(b"no picture")

    page = Page(write_report(a_night(tmp_path, [row]), tmp_path / "report.html"))

    assert "Variant 2 could not be shown." in page.text
    assert "Delivered variant 0 could not be shown. The file is not a picture." in page.text
    assert len(page.pictures) == 5


def test_item_without_any_picture_keeps_its_place(tmp_path: Path) -> None:
    page = Page(write_report(a_night(tmp_path, [a_row("a"), a_failed_row("b")]), tmp_path / "report.html"))

    assert len(page.articles) == 2
    assert "Source could not be shown." in page.text


def test_page_that_is_full_shows_the_rest_without_pictures_and_says_so(tmp_path: Path) -> None:
    rows = [a_painted_row(tmp_path, seed) for seed in range(6)]

    path = write_report(a_night(tmp_path, rows), tmp_path / "report.html", max_bytes=150_000)

    page = Page(path)
    assert path.stat().st_size < 150_000
    assert 7 <= len(page.pictures) < 6 * 7
    assert "are shown without pictures: the page may grow no larger" in page.text
    assert len(page.articles) == 6


def test_page_of_long_texts_shows_fewer_items(tmp_path: Path) -> None:
    rows = [a_failed_row(f"f-{number}", detail="<" * 5000) for number in range(40)]

    path = write_report(a_night(tmp_path, rows), tmp_path / "report.html", max_bytes=300_000)

    assert path.stat().st_size < 300_000
    assert 0 < len(Page(path).articles) < 40


# --- choosing


def test_every_reason_is_shown_even_where_it_is_rare(tmp_path: Path) -> None:
    rows = [a_row(f"ok-{number}") for number in range(60)]
    rows += [a_failed_row(f"f-{word}", word) for word in ("truncated_image", "not_an_image", "unexpected")]
    rows += [a_row("rare", variant_reasons=[None, "high_ring_error"]), a_row("waits", "pending")]

    page = Page(write_report(a_night(tmp_path, rows), tmp_path / "report.html", max_items=12))

    assert len(page.articles) == 12
    for word in ("truncated_image", "not_an_image", "unexpected", "high_ring_error"):
        assert any(REASONS[word].sentence.rstrip(".") in words for words in page.articles), word
    assert any("Pending" in words for words in page.articles)
    assert len(page.links) == 6  # each reason of the table leads to an item; `low_text_similarity` is the sixth


def test_highest_and_lowest_scoring_kept_items_are_shown(tmp_path: Path) -> None:
    def scored(key: str, score: float) -> dict[str, Any]:
        of = {"text_similarity": score, "reference_similarity": None, "ring_error": None}
        return a_row(key, variant_scores=[of, of])

    rows = [scored(f"middle-{number}", 0.5) for number in range(100)] + [scored("top", 0.9), scored("bottom", 0.3)]

    page = Page(write_report(a_night(tmp_path, rows), tmp_path / "report.html", max_items=6))

    assert "top" in page.texts
    assert "bottom" in page.texts


def test_of_items_without_likeness_those_with_the_worst_seam_are_shown(tmp_path: Path) -> None:
    def seamed(key: str, ring_error: float) -> dict[str, Any]:
        of = {"text_similarity": None, "reference_similarity": None, "ring_error": ring_error}
        return a_row(key, variant_scores=[of, {**of, "ring_error": 200.0}], variant_reasons=[None, "high_ring_error"])

    rows = [seamed(f"middle-{number}", 5.0) for number in range(100)] + [seamed("smooth", 1.0), seamed("torn", 90.0)]

    page = Page(write_report(a_night(tmp_path, rows), tmp_path / "report.html", max_items=6))

    assert "torn" in page.texts
    assert "smooth" in page.texts


def test_an_item_ranks_by_the_best_of_its_kept_variants() -> None:
    def scored(key: str, *likeness: float) -> dict[str, Any]:
        of = [{"text_similarity": one, "reference_similarity": None, "ring_error": 5.0} for one in likeness]
        return a_row(key, variant_scores=of, variant_kept=[True, True], variant_reasons=[None, None])

    rows = [scored(f"middle-{number}", 0.5, 0.4) for number in range(100)]
    rows += [scored("one-bad", 0.1, 0.5), scored("both-bad", 0.1, 0.2)]

    chosen = Choice(seed=0, most=6)
    chosen.add(to_table(rows, SCHEMA).select(COLUMNS))

    assert chosen.lowest.numbers()[0] == 101


def test_scores_that_are_no_numbers_rank_no_item() -> None:
    of = {"text_similarity": math.nan, "reference_similarity": None, "ring_error": 5.0}

    chosen = Choice(seed=0, most=6)
    chosen.add(to_table([a_row("a", variant_scores=[of, of])], SCHEMA).select(COLUMNS))

    assert chosen.lowest.numbers() == chosen.highest.numbers() == []


def test_same_seed_gives_the_same_page_and_another_seed_another(tmp_path: Path) -> None:
    published = a_night(tmp_path, [a_row(f"item-{number}") for number in range(200)])

    first, again, other = (
        write_report(published, tmp_path / f"{name}.html", seed=seed, max_items=20).read_text()
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )

    assert first == again
    assert first != other


# --- counts


def test_summary_counts_every_row_and_goes_into_json(tmp_path: Path) -> None:
    rows = [*(a_row(f"ok-{number}") for number in range(9)), a_failed_row("c")]

    told = json.loads(json.dumps(summary(a_night(tmp_path, rows))))

    assert told["counts"] == {"ok": 9, "rejected": 0, "failed": 1, "pending": 0}
    assert told["adds_up"]
    assert (told["variants"]["painted"], told["variants"]["kept"]) == (18, 9)
    assert told["variants"]["reasons"][0]["variants"] == 9
    assert told["changed_outside"] == {"pictures": 9, "pictures_changed": 0, "pixels": 0}
    assert told["reasons"][0]["sentence"] == "The picture ends too early."
    assert told["stages"][0] == {"node": "read", "seconds": 4.6, "seconds_an_item": 0.46}


def test_summary_tells_how_scores_are_spread(tmp_path: Path) -> None:
    told = summary(a_night(tmp_path, [a_row(f"ok-{number}") for number in range(10)]))["scores"]

    assert told["text_similarity"]["kept"] == {"count": 10, "lowest": 0.31, "mean": 0.31, "highest": 0.31}
    assert told["text_similarity"]["not_kept"]["mean"] == 0.12
    assert told["text_similarity"]["asked"] == "at least 0.2"
    assert told["reference_similarity"]["kept"] is None


def test_run_that_kept_all_asked_nothing_of_its_scores(tmp_path: Path) -> None:
    rows = [a_row("a", variant_kept=[True, True], variant_reasons=[None, None]), a_row("b", "pending")]
    rows[1] |= {"variant_seeds": [7], "variant_reasons": ["low_text_similarity"], "variant_scores": None}
    night = a_night(tmp_path, rows, recipe={**RECIPE.model_dump(mode="json"), "judge": {"keep": "all"}})

    page = Page(write_report(night, tmp_path / "report.html"))

    assert summary(night)["scores"]["ring_error"]["asked"] is None
    assert "Edge mismatch asked: nothing" in page.text
    assert "It does not look enough like the prompt." in page.text


def test_variants_of_pending_items_belong_to_an_earlier_night(tmp_path: Path) -> None:
    pending = {**a_row("b"), "status": "pending"}

    told = summary(a_night(tmp_path, [a_row("a"), pending]))

    assert told["variants"]["painted"] == 2
    assert told["changed_outside"]["pictures"] == 1


def test_file_that_was_changed_is_not_reported_on(tmp_path: Path) -> None:
    published = a_night(tmp_path, [a_row("a")])
    file = next((tmp_path / "runs" / "00000042" / "items").iterdir())
    file.write_bytes(file.read_bytes()[:-1] + b"x")

    with pytest.raises(InfrastructureError, match="was changed or cut short"):
        write_report(published, tmp_path / "report.html")


def test_200_000_rows_are_counted_in_bounded_memory_on_a_page_under_25_mb(tmp_path: Path) -> None:
    published = a_night(tmp_path, _many_rows(200_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    path = write_report(published, tmp_path / "report.html")

    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    page = Page(path)
    assert "200,000 planned = 180,000 delivered + 16,000 rejected + 4,000 failed + 0 pending" in page.text
    assert len(page.articles) == 300
    assert path.stat().st_size < 25_000_000
    assert grown_mb < 500
