import numpy as np
import pytest

from pipelines.models.clip import ClipEncoder, load_network
from pipelines.settings import ScoreSettings
from tests.models.tiny import noise, write_encoder

IMAGES = [noise(0, 32, 32), noise(1, 100, 100), noise(2, 7, 7)]
TEXTS = ["a red shirt", "", "a " * 50, "a red shirt"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    network = load_network(write_encoder(tmp_path_factory.mktemp("encoder")))
    return ClipEncoder(network, ScoreSettings(checkpoint="embedded:encoder", call_size=2, threads=1))


def test_nothing_embeds_to_no_rows(encoder):
    assert encoder.embed_images([]).shape == encoder.embed_texts([]).shape == (0, 8)


def test_vectors_have_unit_length(encoder):
    vectors = np.concatenate([encoder.embed_images(IMAGES), encoder.embed_texts(TEXTS)])

    assert vectors.shape == (7, 8)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_vector_is_bit_equal_whatever_its_neighbours(encoder):
    images, texts = encoder.embed_images(IMAGES), encoder.embed_texts(TEXTS)

    for number, image in enumerate(IMAGES):
        np.testing.assert_array_equal(encoder.embed_images([image])[0], images[number])
    for number, text in enumerate(TEXTS):
        np.testing.assert_array_equal(encoder.embed_texts([text])[0], texts[number])
    np.testing.assert_array_equal(texts[0], texts[3])
    assert not np.array_equal(texts[0], texts[1])


def test_picture_that_is_not_square_is_refused(encoder):
    with pytest.raises(ValueError, match="30 x 20 pixels reached the encoder; expected a square crop"):
        encoder.embed_images([noise(0, 20, 30)])


def test_side_is_the_network_s(encoder):
    assert encoder.side_px == 32
