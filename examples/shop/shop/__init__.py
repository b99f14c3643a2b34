"""An example shop: an ordinary Django project, large enough that loading it once is worth something."""

import os

# NumPy's OpenBLAS would take a thread per core in every job, and jobs that run beside each other already use every core.
# To be said before anything imports numpy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
