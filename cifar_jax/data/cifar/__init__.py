"""CIFAR-10 and CIFAR-100: their archives, downloads, and robustness sets."""
