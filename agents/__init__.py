"""Task-conditioned policies and how they learn.

The same numbers have to give the same bits wherever they lie in memory, or what is resumed is not
what was not stopped. Intel's MKL, with which PyTorch multiplies matrices, keeps to that if it is
told so before its first product: https://www.intel.com/content/www/us/en/docs/onemkl/
developer-guide-linux/2024-2/specifying-code-branches.html
"""

import os

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # reproducible, without demands on alignment
