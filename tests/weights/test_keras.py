import h5py
import numpy as np
import pytest
import torch

from dualpixel.errors import DualPixelError
from dualpixel.weights.keras import convolutions_to_torch, read_layers

KERNEL = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
BIAS = np.arange(5, dtype=np.float32)


def layers(first="conv2d_10", second="conv2d_9"):
    return [
        ("input_1", []),
        (first, [(f"{first}/kernel:0", KERNEL), (f"{first}/bias:0", BIAS)]),
        (second, [(f"{second}/kernel:0", -KERNEL), (f"{second}/bias:0", -BIAS)]),
    ]


@pytest.mark.parametrize("as_bytes", [True, False])
@pytest.mark.parametrize("whole_model", [True, False])
@pytest.mark.parametrize("names", [("conv2d_10", "conv2d_9"), ("conv2d", "conv2d_1")])
def test_layers_come_in_the_order_of_the_file(tmp_path, write_keras, as_bytes, whole_model, names):
    path = write_keras(tmp_path / "w.hdf5", layers(*names), as_bytes=as_bytes, whole_model=whole_model)
    read = read_layers(path)
    assert [name for name, _ in read] == list(names)
    assert [list(weights) for _, weights in read] == [["kernel", "bias"]] * 2
    np.testing.assert_array_equal(read[1][1]["kernel"], -KERNEL)


def test_kernels_are_transposed_and_not_flipped(tmp_path, write_keras):
    path = write_keras(tmp_path / "w.hdf5", layers())
    state_dict = convolutions_to_torch(read_layers(path), ["a", "b"], path)
    assert list(state_dict) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert state_dict["a.weight"].shape == (5, 4, 2, 3)
    assert state_dict["a.weight"][4, 3, 1, 0] == KERNEL[1, 0, 3, 4]
    assert state_dict["a.weight"].is_contiguous()
    assert torch.equal(state_dict["b.bias"], -torch.arange(5.0))


def test_other_numbers_and_kinds_of_layers_are_refused(tmp_path, write_keras):
    path = write_keras(tmp_path / "w.hdf5", layers())
    with pytest.raises(DualPixelError, match="2 layers with weights, needed are 3, a to c"):
        convolutions_to_torch(read_layers(path), ["a", "b", "c"], path)
    dense = write_keras(tmp_path / "dense.hdf5", [("dense", [("dense/kernel:0", np.ones((2, 3)))])])
    with pytest.raises(DualPixelError, match=r"layer dense is no convolution.*kernel \(2, 3\)"):
        convolutions_to_torch(read_layers(dense), ["a"], dense)


def test_files_that_keras_did_not_write_are_refused(tmp_path, write_keras):
    with pytest.raises(DualPixelError, match="no such file"):
        read_layers(tmp_path / "absent.hdf5")
    text = tmp_path / "page.hdf5"
    text.write_text("<html>the share has moved</html>")
    with pytest.raises(DualPixelError, match="not a Keras weights file"):
        read_layers(text)
    whole = write_keras(tmp_path / "w.hdf5", layers())
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(DualPixelError, match="truncated"):
        read_layers(cut)
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["images"] = BIAS
    with pytest.raises(DualPixelError, match="no attribute layer_names"):
        read_layers(tmp_path / "other.hdf5")


def test_nested_models_are_refused(tmp_path, write_keras):
    nested = [("model_1", [("conv2d_1/bias:0", BIAS), ("conv2d_2/bias:0", BIAS)])]
    with pytest.raises(DualPixelError, match="nested"):
        read_layers(write_keras(tmp_path / "w.hdf5", nested))
