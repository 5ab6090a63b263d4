# Copyright (c) 2026 the bulkhaul authors
# SPDX-License-Identifier: MIT
"""bulkhaul for Spack, from the tarballs of a release."""

import platform

from spack.package import *

try:  # Since Spack 1.0 build systems come with its packages.
    from spack_repo.builtin.build_systems.generic import Package
except ImportError:  # Before, the line above has brought it.
    pass

# Where the repository is, and sha256 of each tarball: scripts/release writes both into its copy of this file.
_HOME = "https://bulkhaul.invalid/bulkhaul"
_SUMS = {
    "0.1.0": {
        "linux-x64": "0000000000000000000000000000000000000000000000000000000000000000",
        "linux-arm64": "0000000000000000000000000000000000000000000000000000000000000000",
    },
}

_PLATFORM = {"x86_64": "linux-x64", "aarch64": "linux-arm64"}.get(platform.machine(), "linux-x64")


class Bulkhaul(Package):
    """Moves bulk data fast and proves that it arrived: parallel copies, verification, manifests."""

    homepage = _HOME
    license("MIT")

    for _version, _sums in _SUMS.items():
        version(
            _version,
            sha256=_sums[_PLATFORM],
            url=f"{_HOME}/releases/download/v{_version}/bulkhaul-{_version}-{_PLATFORM}.tar.gz",
        )

    conflicts("platform=darwin", msg="the tarballs are for Linux")

    def install(self, spec, prefix):
        install_tree(".", prefix)

    @run_after("install")
    def check_install(self):
        Executable(self.prefix.bin.bulkhaul)("version")
