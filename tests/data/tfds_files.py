"""Writes data sets as TFDS does."""

import io
from pathlib import Path

import small_cifar
from PIL import Image

from cifar_jax.data.cifar import archives


def write_tfds(data_dir, published=small_cifar.CIFAR10):
    """Writes shuffled PNG images with ids, as TFDS's own builder does."""
    import tensorflow_datasets as tfds

    class Own(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = published.name
        VERSION = tfds.core.Version("3.0.2")

        def _info(self):
            features = {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(
                    num_classes=len(published.labels[-1].class_names)
                ),
            }
            if published.name == "cifar100":
                features["coarse_label"] = tfds.features.ClassLabel(num_classes=20)
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            path = small_cifar.write_archive(data_dir, published=published)
            parts = archives.read(published, path, published.binary)
            path.unlink()
            return {
                name: self._generate_examples(name, part)
                for name, part in zip(("train", "test"), parts, strict=True)
            }

        def _generate_examples(self, name, records):
            for index, image in enumerate(records.images):
                png = io.BytesIO()
                Image.fromarray(image).save(png, "PNG")
                png.seek(0)
                labels = zip(
                    (kind.feature for kind in published.labels),
                    records.labels[index],
                    strict=True,
                )
                example = {"id": f"{name}_{index:05d}", "image": png, **dict(labels)}
                yield index, example

    builder = Own(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return Path(builder.data_dir)


def write_info(data_dir, version, text):
    folder = data_dir / "cifar10" / version
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(text)
    return folder
