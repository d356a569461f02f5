"""Tests that Keras's files of weights are read, or refused, whatever is in them."""

import os
import re
import zipfile

import h5py
import numpy as np
import pytest
from keras_files import Layer, write

from cifar_jax import UserError, models

KERNEL = np.arange(12, dtype=np.float32).reshape(3, 4)
LAYERS = [Layer("head", "dense", {"kernel": KERNEL, "bias": np.ones(4, np.float32)})]
FORMATS = (".h5", ".weights.h5", ".keras")
# Of the kernel in the two kinds of files.
PLACES = {".h5": "head/head/kernel:0", ".weights.h5": "layers/dense/vars/0"}


def refusal(path) -> str:
    """Returns the line by which a file is refused."""
    with pytest.raises(UserError) as error:
        models.from_keras(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def virtual(file, place):
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (3, 4))
    file.create_virtual_dataset(place, layout)


def large(file, place):
    file.create_dataset(place, (100_000, 100_000), "f4")


def compressed(file, place):
    file.create_dataset(place, data=KERNEL, compression="gzip")


def external(file, place):
    file.create_dataset(place, (3, 4), "f4", external=[("secret.bin", 0, 48)])


def put(value):
    def write_(file, place):
        file[place] = value

    return write_


def other_floats(file, place):
    """Writes float32 whose exponents have another bias: half of what the bits say."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(126)
    space = h5py.h5s.create_simple(KERNEL.shape)
    group, name = place.rsplit("/", 1)
    made = h5py.h5d.create(file[group].id, name.encode(), kind, space)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, KERNEL)


ELSEWHERE = "is a link to another place, which is not followed"
ODD = {
    "text": (put("secret"), "kernel of layer 'head' is of type object"),
    "texts": (put(np.array([b"a", b"bc"])), "kernel of layer 'head' is of type |S"),
    "empty": (put(h5py.Empty("f4")), "kernel of layer 'head' is not an array"),
    "type": (put(np.dtype("f4")), "kernel of layer 'head' is not an array"),
    "group": (lambda file, place: file.create_group(place), "is not an array"),
    "complex": (put(KERNEL.astype(complex)), "is of type complex128; supported"),
    "integers": (put(KERNEL.astype(int)), "is of type int64; supported"),
    "fields": (put(np.zeros(3, [("a", "f4"), ("b", "f4")])), "is of type ["),
    "big-endian": (put(KERNEL.astype(">f4")), "is of type >f4; supported"),
    "other floats": (other_floats, "float64 in IEEE's formats"),
    "virtual": (virtual, "kernel of layer 'head' is in another file"),
    "external": (external, "kernel of layer 'head' is in another file"),
    "external link": (put(h5py.ExternalLink("other.h5", "secret")), ELSEWHERE),
    "soft link": (put(h5py.SoftLink("/nowhere")), ELSEWHERE),
    "compressed": (compressed, "kernel of layer 'head' is compressed"),
    "unwritten": (large, "damaged: not all of its bytes are in the file"),
    "too large": (
        put(KERNEL * np.float64(1e300)),
        "has the value 1.1e+301, too large",
    ),
    "large": (put(KERNEL * np.float32(1e30)), "has the value 1.1e+31, too large"),
    "NaN": (put(np.array([[np.nan, 1e300]])), "in params/head/kernel (2 of 2)"),
    "infinite": (
        put(np.full((3, 4), -np.inf)),
        "non-finite values in params/head/kernel",
    ),
}


@pytest.mark.parametrize("ending", PLACES)
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_weight_is_refused(tmp_path, monkeypatch, kind, ending):
    monkeypatch.chdir(tmp_path)  # where other files would be found
    with h5py.File("other.h5", "w") as file:
        file["secret"] = KERNEL
    (tmp_path / "secret.bin").write_bytes(KERNEL.tobytes())
    path = write(tmp_path / f"model{ending}", LAYERS)
    make, message = ODD[kind]
    with h5py.File(path, "a") as file:
        del file[PLACES[ending]]
        make(file, PLACES[ending])
    assert message in refusal(path)


@pytest.mark.parametrize("shape", [(), (3,), (0, 3, 4, 1), (2, 3, 3, 4, 1)])
@pytest.mark.parametrize("weight", ["depthwise_kernel", "kernel"])
def test_kernels_of_any_shape(tmp_path, shape, weight):
    kernel = np.ones(shape, np.float32)
    path = write(tmp_path / "model.h5", [Layer("dw", "", {weight: kernel})])
    found = models.from_keras(path)["params"]["dw"]["kernel"]
    assert found.size == kernel.size


def test_a_group_that_is_elsewhere_is_not_read(tmp_path):
    other = write(tmp_path / "other.h5", LAYERS)
    with h5py.File(path := tmp_path / "model.h5", "w") as file:
        file["model_weights"] = h5py.ExternalLink(other, "/")
    assert f"its model_weights {ELSEWHERE}" in refusal(path)


@pytest.mark.parametrize("name", ["model.weights.h5", "config.json"])
def test_an_archive_does_not_unpack_to_any_size(tmp_path, name):
    path = write(tmp_path / "model.keras", LAYERS)
    with zipfile.ZipFile(path) as archive:
        contents = {each: archive.read(each) for each in archive.namelist()}
    contents[name] += b" " * (17 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, content in contents.items():
            archive.writestr(each, content)
    assert path.stat().st_size < 100_000
    assert re.search(f"its {name} would have [0-9,]+ bytes", refusal(path))


def test_a_packed_archive_is_read(tmp_path):
    path = write(tmp_path / "model.keras", LAYERS)
    with zipfile.ZipFile(path) as archive:
        contents = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, content in contents.items():
            archive.writestr(each, content)
    found = models.from_keras(path)["params"]["head"]["kernel"]
    np.testing.assert_array_equal(found, KERNEL)


@pytest.mark.parametrize("ending", FORMATS)
def test_what_has_no_end_is_refused(tmp_path, ending):
    os.mkfifo(path := tmp_path / f"fifo{ending}")
    assert "is not a regular file" in refusal(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "is not a regular file" in refusal(path)
    assert "File name too long" in refusal(tmp_path / f"{'x' * 300}{ending}")


@pytest.mark.parametrize("ending", FORMATS)
def test_texts_that_are_zeroed(tmp_path, ending):
    """HDF5 itself would not end."""
    path = write(tmp_path / f"model{ending}", LAYERS)
    content = path.read_bytes()
    found = content.index(b"GCOL")
    content = content[: found + 16] + bytes(64) + content[found + 80 :]
    if ending == ".keras":
        content = with_right_sums(path, content)
    path.write_bytes(content)
    assert "part of its text is zeroed" in refusal(path)


@pytest.mark.parametrize("ending", PLACES)
def test_a_wrong_address(tmp_path, ending):
    path = write(tmp_path / f"model{ending}", LAYERS)
    with h5py.File(path) as file:
        dataset = file[PLACES[ending].replace("kernel", "bias").replace("/0", "/1")]
        address = dataset.id.get_offset()
    content = path.read_bytes()
    assert content.count(address.to_bytes(8, "little")) == 1
    wrong = (address - 4).to_bytes(8, "little")
    path.write_bytes(content.replace(address.to_bytes(8, "little"), wrong))
    assert "shares bytes with others" in refusal(path)


@pytest.mark.parametrize("place", ["layers", "layers/dense", "layers/dense/vars/0"])
def test_a_second_name(tmp_path, place):
    path = write(tmp_path / "model.weights.h5", LAYERS)
    with h5py.File(path, "a") as file:
        file["layers/dense_1"] = file[place]
    assert "shares bytes with others" in refusal(path)


def test_a_list_that_names_the_same_layer_often(tmp_path):
    kernel = np.ones((100, 100), np.float32)
    path = write(tmp_path / "model.h5", [Layer("head", "dense", {"kernel": kernel})])
    with h5py.File(path, "a") as file:
        del file.attrs["layer_names"]
        file.attrs["layer_names"] = ["./" * i + "head" for i in range(9)]
    assert re.search("it has the weights of layer '.*' several times", refusal(path))


def with_right_sums(path, content):
    """Returns a .keras file with changed contents, but their checksums."""
    with zipfile.ZipFile(path) as archive:
        parts = [(info, archive.read(info)) for info in archive.infolist()]
    for info, part in parts:
        if part[:4] == b"\x89HDF":
            start = info.header_offset + 30 + len(info.filename)
            changed = content[start : start + len(part)]
    with zipfile.ZipFile(path, "w") as archive:
        for info, part in parts:
            archive.writestr(info.filename, changed if part[:4] == b"\x89HDF" else part)
    return path.read_bytes()


@pytest.mark.parametrize("source", [None, b"model.h5", 3])
def test_what_is_no_source(source):
    with pytest.raises(UserError, match="must be the name of a Keras file, or a Keras"):
        models.from_keras(source)
