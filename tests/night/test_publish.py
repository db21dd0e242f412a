"""A run is published whole or not at all, in files of bounded size."""

import pytest

from pipelines import storage
from pipelines.errors import InfrastructureError
from pipelines.night import lease, manifest, publish
from tests.shop import Shop


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path, 5)


def test_each_file_has_as_many_items_as_it_may_and_the_last_one_the_rest(shop, monkeypatch):
    monkeypatch.setattr(publish, "ROWS_A_FILE", 2)
    shop.products["colour"][3] = None  # kept as failed, while the others come from the parts

    items = shop.render()

    files = manifest.newest(shop.out).facts["files"]
    assert [file["rows"] for file in files if file["path"].startswith("items/")] == [2, 2, 1]
    assert set(items) == set("abcde")


def test_published_run_is_never_written_again(shop):
    late = shop.plan()
    shop.render()
    before = {file.uri: storage.read(file.uri) for file in storage.list_files(manifest.run_uri(shop.out, 1))}
    with lease.held(f"{shop.folder}/another") as held, pytest.raises(InfrastructureError, match="published already"):
        publish.publish(shop.night(), late, {}, held)

    assert before == {file.uri: storage.read(file.uri) for file in storage.list_files(manifest.run_uri(shop.out, 1))}
