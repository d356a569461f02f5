"""Tests that the lab is the same in both languages, and that its numbers are right."""

import importlib
import math
import re
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from run_experiments import ROOT

from cifar_jax import Config
from experiments.course import convolution, layers, why_pooling

LAB = ROOT / "docs" / "lab"
LANGUAGES = ("en", "zh-TW")
PAGES = sorted(path.name for path in (LAB / "en").iterdir())
# The functions that the slides explain, and others of the same scripts.
EXPLAINED = set(
    """
    read_cifar10 _generate_image_and_label_batch distorted_inputs inputs IMAGE_SIZE
NUM_CLASSES NUM_EXAMPLES_PER_EPOCH_FOR_TRAIN MOVING_AVERAGE_DECAY NUM_EPOCHS_PER_DECAY
LEARNING_RATE_DECAY_FACTOR INITIAL_LEARNING_RATE _activation_summary _variable_on_cpu
_variable_with_weight_decay inference local3 local4 softmax_linear loss
_add_loss_summaries train maybe_download_and_extract MonitoredTrainingSession
StopAtStepHook NanTensorHook _LoggerHook.begin _LoggerHook.before_run
_LoggerHook.after_run main eval_once evaluate tower_loss average_gradients
    """.split()  # noqa: SIM905
)
# Full-width parentheses and commas look like the others.
NARROW = {0xFF08: "(", 0xFF09: ")", 0xFF0C: ","}

each_language = pytest.mark.parametrize("language", LANGUAGES)
each_page = pytest.mark.parametrize("name", PAGES)


def read(language: str, name: str) -> str:
    """Returns the text of a page, named by its number or its file."""
    (path,) = (LAB / language).glob(f"{name}*")
    return path.read_text(encoding="utf-8")


def sections(text: str) -> list[str]:
    """Returns the parts of a page, which begin with headings of the second level."""
    return re.split(r"^## ", text, flags=re.MULTILINE)


def code(text: str) -> list[str]:
    """Returns the lines of code blocks, without comments."""
    fenced = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    indented = re.findall(
        r"^ {4,}\S.*$", re.sub(r"```.*?```", "", text, flags=re.S), re.M
    )
    lines = [line for block in fenced for line in block.splitlines()] + indented
    return [line.split("  #")[0].strip() for line in lines]


def rows(text: str) -> list[list[str]]:
    """Returns the cells of the rows of all tables, rules and headers included."""
    found = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in found]


def block(text: str, first: str) -> list[list[float]]:
    """Returns the numbers in each line of the code block that begins with a line."""
    (lines,) = re.findall(rf"^ +{re.escape(first)}(?:\n +.*)*", text, re.MULTILINE)
    return [
        [float(n) for n in re.findall(r"-?[\d.]+", row)] for row in lines.split("\n")
    ]


def test_both_languages_have_all_pages_and_the_index_has_both():
    index = (LAB / "README.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in (LAB / "zh-TW").iterdir()) == PAGES
    for language in LANGUAGES:
        for name in PAGES:
            title = read(language, name).splitlines()[0].removeprefix("# ")
            assert f"[{title}]({language}/{name})" in index


@each_page
def test_both_languages_have_the_same_structure(name):
    pairs = zip(
        *(sections(read(language, name)) for language in LANGUAGES), strict=True
    )
    for english, chinese in pairs:
        assert code(english) == code(chinese)
        for pattern in (r"^\d\.\d? ", r"^<.*?>", r"\]\((.*?)\)"):
            found = [re.findall(pattern, part, re.M) for part in (english, chinese)]
            assert found[0] == found[1]
        assert [len(row) for row in rows(english)] == [
            len(row) for row in rows(chinese)
        ]
        # A figure that is corrected in one language only would be found here. Small
        # numbers may be words in the other one.
        numbers, same = (
            Counter(re.findall(r"\d[\d,.]*\d", part)) for part in (english, chinese)
        )
        assert numbers == same, english.splitlines()[0]


@each_language
def test_every_function_of_the_tutorial_has_a_place_and_a_reason(language):
    table = [row for row in rows(read(language, "5")) if row[1:2] != [""]][2:]
    assert all(len(row) == 3 and all(row) for row in table)
    named = {name for row in table for name in re.findall(r"`([\w.]+)`", row[0])}
    assert named - {"conv1", "norm2"} == EXPLAINED
    for _, places, _ in table:
        for flag in re.findall(r"`--(\w+)`", places):
            assert flag in Config.__dataclass_fields__, flag
        for place in re.findall(r"`([a-z][\w.]+)`", places):
            find(place.split("."))


def find(parts: list[str]) -> object:
    """Returns the module, class or function of the package with this name."""
    path, found = "cifar_jax", importlib.import_module("cifar_jax")
    for part in parts:
        path += f".{part}"
        try:
            found = importlib.import_module(path)
        except ModuleNotFoundError:
            found = getattr(found, part)
    return found


def test_the_places_are_the_same_in_both_languages():
    english, chinese = ([row[1] for row in rows(read(x, "5"))[2:]] for x in LANGUAGES)
    assert english == chinese


EQUATION = re.compile(r"((?:max|exp|ln |[\d.,()x+*/^ -])+) = (-?[\d,.]*\d%?)")


def equations(text: str) -> list[tuple[str, str]]:
    """Returns both sides of what a page calculates from numbers alone."""
    text = re.sub(r"^ *\d+\. ", "", text, flags=re.MULTILINE)
    text = re.sub(r"\+\n +", "+ ", text)
    found = [(left.strip(" ,."), right) for left, right in EQUATION.findall(text)]
    return [(left, right) for left, right in found if re.search(r"[x+/^-]|ln", left)]


@each_language
def test_every_equation_holds(language):
    found = [pair for name in PAGES for pair in equations(read(language, name))]
    assert len(found) > 35
    for left, right in found:
        python = re.sub(r"(?<=\d),(?=\d{3})", "", left)
        python = re.sub(r"ln ([\d.]+)", r"log(\1)", python)
        python = re.sub(r"(?<=[\d ])x(?=[\d ])", "*", python).replace("^", "**")
        value = eval(python, {"log": math.log, "exp": math.exp, "max": max})
        digits = right.replace(",", "").rstrip("%")
        value *= 100 if "%" in right else 1
        # What is rounded on the way may be one off in its last digit.
        last = 10.0 ** -len(digits.partition(".")[2])
        assert value == pytest.approx(float(digits), abs=last), (left, right)


@each_language
def test_the_numbers_of_convolution_and_pooling(language):
    text = read(language, "1")
    valid, same, strided, *_ = convolution.examples()
    lines = block(text, "1 1 1 0 0")
    assert [row[:5] for row in lines] == convolution.IMAGE.tolist()
    assert [row[5:] for row in lines[1:4]] == valid.output.tolist()
    assert valid.arithmetic in text
    lines = block(text, "3 5 5 3 1")
    assert [row[:5] for row in lines] == same.output.tolist()
    assert [row[5:] for row in lines[2:4]] == strided.output.tolist()
    edges = jnp.array([[1.0, 0, -1]] * 3)
    image = jnp.asarray(convolution.IMAGE)
    found = lax.conv(image[None, None], edges[None, None], (1, 1), "VALID")[0, 0]
    assert block(text, "-2  0 2") == found.tolist()
    assert block(text, "2 2  6 -2") == convolution.FEATURES.tolist()
    windows = np.array(block(text, "1 3 2 0")).reshape(2, 2, 2, 2)
    for pooled in (windows.max(axis=(1, 3)), windows.mean(axis=(1, 3))):
        assert " / ".join(" ".join(f"{x:g}" for x in row) for row in pooled) in text
    signal = [1, 2, 4, 8]
    assert np.convolve(signal, [1, -1], "valid").tolist() == [1, 2, 4]
    assert " 1 2 4" in text


@each_language
def test_the_network_with_and_without_pooling(language):
    table = rows(read(language, "1"))
    for name, network in why_pooling.NETWORKS.items():
        counts = why_pooling.costs(network())
        assert [name, *(f"{count:,}" for count in counts.values())] in table


@each_language
def test_the_numbers_of_softmax_and_the_one_hot_codes(language):
    text = read(language, "3")
    figures = convolution.classification()
    table = rows(text)
    for name in ("logits", "exponentials", "softmax", "cross_entropy"):
        expected = [f"{x:.3f}" for x in figures[name]]
        assert sum(row[1:] == expected for row in table) == 1
    codes = [row[-1] for row in table if re.fullmatch("[01]( [01])+", row[-1])]
    expected = [
        " ".join(f"{bit:g}" for bit in row)
        for name in ("sex", "car")
        for row in convolution.one_hot()[name].values()
    ]
    assert codes == expected


@each_language
def test_the_interval_of_a_precision(language):
    text = read(language, "4")
    for count, digits in ((10_000, 4), (1_000, 3)):
        half = 1.96 * math.sqrt(0.61 * 0.39 / count)
        assert f"{half:.{digits}f}" in text


@each_language
def test_the_layers_of_vgg16(language):
    printed = rows(layers.summary("vgg16", None, 224))[2:]
    table = rows(read(language, "2"))
    start = table.index(printed[0])
    assert table[start : start + len(printed)] == printed
    without = layers.summary("vgg16", None, 64)
    fc1 = next(row for row in rows(without) if row[0].startswith("fc1"))
    assert f"= {fc1[2]}" in read(language, "2")


def networks(language: str) -> list[tuple[str, ...]]:
    """Returns the rows of the page's table of networks."""
    return [tuple(row) for row in rows(read(language, "2")) if len(row) == 5][2:]


@pytest.mark.slow
@each_language
def test_the_table_of_networks_is_what_the_command_prints(language):
    assert networks(language) == layers.networks()


@each_language
def test_the_networks_are_those_of_the_course(language):
    # Name, MB, top-1, top-5 and parameters as the slide has them; a file is a little
    # larger than its parameters.
    slide = {
        "xception": (88, 0.790, 0.945, 22_910_480),
        "vgg16": (528, 0.715, 0.901, 138_357_544),
        "vgg19": (549, 0.727, 0.910, 143_667_240),
        "resnet50": (99, 0.759, 0.929, 25_636_712),
        "inception_v3": (92, 0.788, 0.944, 23_851_784),
        "inception_resnet_v2": (215, 0.804, 0.953, 55_873_736),
        "mobilenet": (17, 0.665, 0.871, 4_253_864),
    }
    found = {
        name: (float(size), float(top_1), float(top_5), int(count.replace(",", "")))
        for name, size, top_1, top_5, count in networks(language)
    }
    assert found.keys() == slide.keys()
    for name, (size, *rest) in slide.items():
        assert list(found[name][1:]) == rest
        assert 0 <= size - found[name][0] <= 2


@pytest.mark.slow
@each_language
def test_the_script_runs(language, capsys):
    (script,) = re.findall(r"```python\n(.*?)```", read(language, "5"), re.DOTALL)
    exec(script, {})
    steps = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert steps == ["1", "2"]
