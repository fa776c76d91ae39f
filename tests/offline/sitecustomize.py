"""Read by every Python at its start when this folder is on PYTHONPATH: takes the guard into kernels."""

import offline_guard  # noqa: F401
