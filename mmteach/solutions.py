"""Reference solutions of the exercises, the one source that checks, notebooks and tests read.

A function here has the name of its exercise; `check.<name>` judges a reader's version against it and
`check.solution("<name>")` shows its text folded away. Each stands alone on numpy (`np`) and torch.
"""

from __future__ import annotations

import numpy as np
import torch
