"""Numbers and tables: libraries with threads of their own in C, C++, Rust or Fortran."""

from __future__ import annotations

import io
from typing import Any

from case import Case, check


class Numpy(Case):
    distribution = module = "numpy"
    distinct = True
    rounds = 3

    def create(self) -> Any:
        import numpy

        return numpy.arange(250_000, dtype=float).reshape(500, 500) % 7

    def use(self, made: Any, tag: str) -> Any:
        import numpy

        check(float((made @ made)[0, 0]), float((made[0] * made[:, 0]).sum()))
        return float(numpy.random.random())


class NumpyGenerator(Case):
    distribution, module, name = "numpy", "numpy.random", "numpy, a Generator"
    distinct = True
    hook = "make one in each worker"

    def create(self) -> Any:
        import numpy

        return numpy.random.default_rng()

    def use(self, made: Any, tag: str) -> Any:
        return float(made.random())

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Pandas(Case):
    distribution = module = "pandas"
    rounds = 5

    def create(self) -> Any:
        import pandas

        return pandas.DataFrame({"key": [n % 10 for n in range(10_000)], "value": range(10_000)})

    def use(self, made: Any, tag: str) -> Any:
        check(int(made.groupby("key").value.sum()[3]), 4_998_000)
        check(made.merge(made.head(5), on="value").shape, (5, 3))


class Scipy(Case):
    distribution = module = "scipy"
    rounds = 3

    def create(self) -> Any:
        import numpy
        import scipy.linalg
        import scipy.optimize  # noqa: F401

        return numpy.eye(300) * 3 + numpy.ones((300, 300)) / 300

    def use(self, made: Any, tag: str) -> Any:
        import scipy.linalg
        import scipy.optimize

        check(round(float((scipy.linalg.inv(made) @ made).trace())), 300)
        check(round(float(scipy.optimize.minimize(lambda x: (x[0] - 2) ** 2, [0.0]).x[0]), 3), 2.0)


class Sklearn(Case):
    distribution, module = "scikit-learn", "sklearn"
    rounds = 1

    def create(self) -> Any:
        import numpy
        import sklearn.cluster
        import sklearn.ensemble  # noqa: F401

        return numpy.random.default_rng(1).normal(size=(600, 4))

    def use(self, made: Any, tag: str) -> Any:
        import sklearn.cluster
        import sklearn.ensemble

        check(sklearn.cluster.KMeans(4, n_init=1, random_state=1).fit(made).cluster_centers_.shape, (4, 4))
        kind = sklearn.ensemble.HistGradientBoostingRegressor(max_iter=3)
        check(kind.fit(made, made[:, 0]).predict(made).shape, (600,))


class Pyarrow(Case):
    distribution = module = "pyarrow"
    rounds = 3
    warned = True
    hook = 'unsafe = "warn"'

    def create(self) -> Any:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet

        return pyarrow.table({"key": [n % 10 for n in range(50_000)], "value": list(range(50_000))})

    def use(self, made: Any, tag: str) -> Any:
        import pyarrow.compute
        import pyarrow.parquet

        check(made.group_by("key", use_threads=True).aggregate([("value", "sum")]).num_rows, 10)
        data = io.BytesIO()
        pyarrow.parquet.write_table(made, data)
        check(pyarrow.parquet.read_table(io.BytesIO(data.getvalue()), use_threads=True).num_rows, 50_000)


class Polars(Case):
    distribution = module = "polars"
    rounds = 3
    hook = ""

    def create(self) -> Any:
        import polars

        return polars.DataFrame({"key": [n % 10 for n in range(50_000)], "value": range(50_000)})

    def use(self, made: Any, tag: str) -> Any:
        import polars

        check(made.lazy().group_by("key").agg(polars.col("value").sum()).collect().height, 10)
        check(made.sort("value", descending=True)["value"][0], 49_999)


class Matplotlib(Case):
    distribution, module = "matplotlib", "matplotlib.pyplot"
    rounds = 2

    def create(self) -> Any:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        return pyplot

    def use(self, made: Any, tag: str) -> Any:
        figure, axes = made.subplots()
        axes.plot([1, 2, 3], label=tag)
        axes.legend()
        data = io.BytesIO()
        figure.savefig(data)
        made.close(figure)
        check(data.getvalue()[1:4], b"PNG")


class Pillow(Case):
    distribution, module = "pillow", "PIL.Image"
    rounds = 5

    def create(self) -> Any:
        from PIL import Image

        return Image.effect_noise((400, 400), 30)

    def use(self, made: Any, tag: str) -> Any:
        from PIL import Image

        data = io.BytesIO()
        made.resize((200, 200), Image.Resampling.LANCZOS).convert("RGB").save(data, "JPEG")
        check(Image.open(io.BytesIO(data.getvalue())).size, (200, 200))
