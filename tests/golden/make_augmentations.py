"""Writes torchvision's results for test_operations.py, to augmentations.npz.

To run it in a throwaway environment:

    pip install torch==2.13.0 torchvision==0.28.0
    cd tests && python -m golden.make_augmentations

They are those of transforms.v2 for tensors of bytes. It also prints by how much the
older transforms differ from them, and those of Pillow's images, by operation.
"""

import pathlib

import numpy as np
import torch
from golden import augmentation_inputs as inputs
from torchvision.transforms import InterpolationMode, autoaugment, v2
from torchvision.transforms.v2 import functional

NAMES = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"),
    *("Brightness", "Color", "Contrast", "Sharpness"),
    *("Posterize", "Solarize", "AutoContrast", "Equalize", "Invert"),
)
SIZE = (inputs.HEIGHT, inputs.WIDTH)
IMAGES = torch.from_numpy(inputs.images()).movedim(-1, 1)


def as_array(images: torch.Tensor) -> np.ndarray:
    return images.movedim(-3, -1).numpy()


def magnitudes(policy: type, bins: int) -> np.ndarray:
    """Returns the magnitudes of a policy, [operation, bin]; solarize's out of 255."""
    found = np.zeros((len(NAMES), bins), np.float32)
    for name, (values, _) in policy._AUGMENTATION_SPACE.items():
        if (row := values(bins, *SIZE)) is not None:
            found[NAMES.index(name)] = row * (255 if name == "Solarize" else 1)
    return found


def operations(policy: v2.Transform, bins: int, chosen: tuple[int, ...]) -> np.ndarray:
    """Returns the results of all operations, [operation, bin, sign, image, h, w, c].

    The results of those that a policy does not have, and the negative magnitudes of
    those that are never negative, are left out: there the image is black.
    """
    shape = (len(NAMES), len(chosen), 2, *IMAGES.movedim(1, -1).shape)
    found = np.zeros(shape, np.uint8)
    space = policy._AUGMENTATION_SPACE | {"Invert": (lambda *_: None, False)}
    for name, (values, signed) in space.items():
        row = values(bins, *SIZE)
        for place, chosen_bin in enumerate(chosen):
            magnitude = 0.0 if row is None else float(row[chosen_bin])
            for number, sign in enumerate((1, -1) if signed else (1,)):
                done = policy._apply_image_or_video_transform(
                    IMAGES, name, sign * magnitude, policy.interpolation, policy._fill
                )
                found[NAMES.index(name), place, number] = as_array(done)
    return found


def print_differences() -> None:
    """Prints the largest difference from tensors in v2, and the share that differs."""
    policy, mode = v2.TrivialAugmentWide(), InterpolationMode.NEAREST
    older = autoaugment.TrivialAugmentWide()._augmentation_space(31)
    images = [functional.to_pil_image(image) for image in IMAGES]
    for name, (values, _) in policy._AUGMENTATION_SPACE.items():
        row = values(31, *SIZE)
        pairs = [(0.0, 0.0)] if row is None else zip(row, older[name][0], strict=True)
        found: dict[str, list] = {"transforms": [], "Pillow": []}
        for magnitude, older_magnitude in pairs:
            numbers = name, float(magnitude), mode, policy._fill
            apply = policy._apply_image_or_video_transform
            tensors = as_array(apply(IMAGES, *numbers)).astype(int)
            before = (name, float(older_magnitude), mode, None)
            older_tensors = as_array(autoaugment._apply_op(IMAGES, *before))
            pictures = np.stack([np.asarray(apply(i, *numbers)) for i in images])
            found["transforms"].append(np.abs(older_tensors - tensors))
            found["Pillow"].append(np.abs(pictures - tensors))
        texts = [
            f"{kind} {np.max(differences)} in {np.mean(np.array(differences) > 0):.2%}"
            for kind, differences in found.items()
        ]
        print(f"{name}: {', '.join(texts)}")


def affine(mode: InterpolationMode) -> np.ndarray:
    """Returns affine maps and then rotations of the images."""
    affine_maps = [
        functional.affine(IMAGES, angle, list(shift), scale, list(shear), mode)
        for angle, shift, scale, shear in inputs.AFFINE
    ]
    rotations = [functional.rotate(IMAGES, angle, mode) for angle in inputs.ANGLES]
    return np.stack([as_array(images) for images in affine_maps + rotations])


def rectangles() -> dict[str, np.ndarray]:
    """Returns heights and widths of random rectangles; 0 for none."""
    torch.manual_seed(0)
    erase = v2.RandomErasing(1.0, *inputs.ERASING)
    erased = [erase.make_params([IMAGES[0]]) for _ in range(inputs.RECTANGLES)]
    crop = v2.RandomResizedCrop(8, *inputs.CROPPING)
    cropped = [crop.make_params([IMAGES[0]]) for _ in range(inputs.RECTANGLES)]
    sizes = {
        "erased": [(p["h"], p["w"]) if p["v"] is not None else (0, 0) for p in erased],
        "cropped": [(p["height"], p["width"]) for p in cropped],
    }
    return {name: np.array(values, np.uint8) for name, values in sizes.items()}


def main() -> None:
    policies = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)._policies
    found = {
        "trivial_magnitudes": magnitudes(v2.TrivialAugmentWide, 31),
        "rand_magnitudes": magnitudes(v2.RandAugment, 31),
        "auto_magnitudes": magnitudes(v2.AutoAugment, 10),
        "augmix_magnitudes": magnitudes(v2.AugMix, 10),
        "trivial": operations(v2.TrivialAugmentWide(), 31, inputs.BINS),
        "augmix": operations(v2.AugMix(), 10, inputs.AUGMIX_BINS),
        "policies": np.array(
            [
                [(NAMES.index(name), prob, place or 0) for name, prob, place in pair]
                for pair in policies
            ]
        ),
        "affine_nearest": affine(InterpolationMode.NEAREST),
        "affine_bilinear": affine(InterpolationMode.BILINEAR),
        "grayscale": as_array(functional.rgb_to_grayscale(IMAGES, 3)),
        "hue": np.stack(
            [as_array(functional.adjust_hue(IMAGES, hue)) for hue in inputs.HUES]
        ),
    }
    for name in ("brightness", "contrast", "saturation"):
        adjust = getattr(functional, f"adjust_{name}")
        found[name] = np.stack([as_array(adjust(IMAGES, f)) for f in inputs.FACTORS])
    for number, (*rectangle, size) in enumerate(inputs.CROPS):
        resized = functional.resized_crop(IMAGES, *rectangle, [size, size])
        found[f"resized_{number}"] = as_array(resized)
    path = pathlib.Path(__file__).with_name("augmentations.npz")
    np.savez_compressed(path, **found, **rectangles())
    print_differences()


if __name__ == "__main__":
    main()
