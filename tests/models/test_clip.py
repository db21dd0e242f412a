import numpy as np
import pytest
import torch
from transformers import CLIPModel, CLIPProcessor

from pipelines.models.clip import ClipEncoder, load
from tests.models.tiny import a_call, noise, write_encoder

IMAGES = [noise(0, 32, 32), noise(1, 100, 100), noise(2, 7, 7)]
TEXTS = ["a red shirt", "", "a " * 50, "a red shirt"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder):
    return ClipEncoder(load(folder, a_call()), a_call(call_size=2))


def test_vectors_and_cosines_are_those_of_the_library_s_own_processor_and_model(folder, encoder):
    processor = CLIPProcessor.from_pretrained(folder, backend="pil")
    texts = ["a red shirt", "blue bag", ""]
    inputs = processor(text=texts, images=IMAGES, padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = CLIPModel.from_pretrained(folder).eval()(**inputs)

    images, words = encoder.embed_images(IMAGES), encoder.embed_texts(texts)

    np.testing.assert_allclose(images, outputs.image_embeds.numpy(), atol=1e-6)
    np.testing.assert_allclose(words, outputs.text_embeds.numpy(), atol=1e-6)
    scale = float(encoder.network.model.logit_scale.exp())
    np.testing.assert_allclose(images @ words.T, outputs.logits_per_image.numpy() / scale, atol=1e-6)


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
