import numpy as np
import pytest
import torch

from pipelines.models import calls
from pipelines.models.calls import inference, normalised, parameter_bytes
from pipelines.models.loading import ADAPTERS
from tests.models.tiny import a_call, noise


def test_pictures_are_scaled_to_one_and_each_channel_is_normalised():
    pictures = [noise(0, 4, 6), noise(1, 4, 6)]
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)

    tensor = normalised(pictures, mean, std, "cpu")

    assert tensor.shape == (2, 3, 4, 6)
    assert tensor.dtype == torch.float32
    expected = (np.stack(pictures) / 255 - mean) / std
    np.testing.assert_allclose(tensor.permute(0, 2, 3, 1).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_network_is_called_with_its_threads_and_without_gradients():
    with inference(a_call(threads=2)):
        assert torch.get_num_threads() == 2
        assert torch.is_inference_mode_enabled()
    with inference(a_call(threads=1)):
        assert torch.get_num_threads() == 1


def test_bytes_are_those_of_every_parameter_and_buffer_of_a_network_or_of_an_object_s_networks():
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).half()
    of_linear, of_norm = (3 * 2 + 2) * 2, 4 * 2 * 2 + 8  # the count of batches is one 64-bit number

    class Pair:
        def __init__(self):
            self.first, self.second, self.name = network, torch.nn.Linear(1, 1, bias=False), "a pair"

    assert parameter_bytes(network) == of_linear + of_norm
    assert parameter_bytes(Pair()) == of_linear + of_norm + 4
    assert parameter_bytes(5) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch has a GPU here")
def test_process_that_was_given_a_gpu_does_not_fall_back_to_the_cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(calls.InfrastructureError, match="was given the GPU '0'"):
        calls.device()

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert calls.device() == "cpu"


def test_every_role_computes_in_single_precision_on_a_cpu():
    if torch.cuda.is_available():
        pytest.skip("torch has a GPU here")
    assert {a_call(role=role).dtype for role in ADAPTERS} == {"float32"}
