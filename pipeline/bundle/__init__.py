"""The bundle: a compiled library, its weights, and what is needed to load and trust it."""

from pipeline.bundle.bundle import Bundle, read_bundle, write_bundle
from pipeline.bundle.int8 import pack, unpack
from pipeline.bundle.manifest import Manifest, MeasuredAccuracy
from pipeline.bundle.verify import BundleNotVerified, verify_bundle, verify_bundle_elsewhere

__all__ = [
    "Bundle",
    "BundleNotVerified",
    "Manifest",
    "MeasuredAccuracy",
    "pack",
    "read_bundle",
    "unpack",
    "verify_bundle",
    "verify_bundle_elsewhere",
    "write_bundle",
]
