"""Text, data formats and other libraries that should not notice a fork."""

from __future__ import annotations

import io
import os
import tempfile
from typing import Any

from case import Case, check

PAGE = "<html><body><ul>" + "".join(f"<li class='n'>{n}</li>" for n in range(200)) + "</ul></body></html>"


class Lxml(Case):
    distribution, module = "lxml", "lxml.etree"

    def create(self) -> Any:
        from lxml import etree

        return etree.HTMLParser(), etree.XPath("//li[@class='n']/text()")

    def use(self, made: Any, tag: str) -> Any:
        from lxml import etree

        parser, path = made
        check(path(etree.fromstring(PAGE.replace("199", tag), parser))[-1], tag)


class BeautifulSoup(Case):
    distribution, module = "beautifulsoup4", "bs4"
    rounds = 5

    def use(self, made: Any, tag: str) -> Any:
        import bs4

        check(bs4.BeautifulSoup(PAGE.replace("199", tag), "html.parser").find_all("li")[-1].text, tag)


class Yaml(Case):
    distribution, module = "pyyaml", "yaml"

    def use(self, made: Any, tag: str) -> Any:
        import yaml

        value = {"tag": tag, "list": [1, 2.5, None]}
        check(yaml.load(yaml.dump(value, Dumper=yaml.CSafeDumper), Loader=yaml.CSafeLoader), value)


class Pydantic(Case):
    distribution = module = "pydantic"

    def create(self) -> Any:
        import pydantic

        return pydantic.create_model("Order", tag=(str, ...), lines=(list[int], ...))

    def use(self, made: Any, tag: str) -> Any:
        order = made.model_validate_json(f'{{"tag": "{tag}", "lines": [1, "2"]}}')
        check((order.tag, order.lines), (tag, [1, 2]))


class Cryptography(Case):
    distribution, module = "cryptography", "cryptography.fernet"
    distinct = True

    def create(self) -> Any:
        from cryptography.fernet import Fernet
        from cryptography.hazmat.primitives.asymmetric import ec

        return Fernet(Fernet.generate_key()), ec.generate_private_key(ec.SECP256R1())

    def use(self, made: Any, tag: str) -> Any:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        fernet, key = made
        secret = fernet.encrypt(tag.encode())
        check(fernet.decrypt(secret), tag.encode())
        # Two processes that sign with the same random number have given the key away.
        return key.sign(b"the same", ec.ECDSA(hashes.SHA256())).hex()


class Protobuf(Case):
    distribution, module = "protobuf", "google.protobuf"

    def create(self) -> Any:
        from google.protobuf import struct_pb2

        return struct_pb2.Struct

    def use(self, made: Any, tag: str) -> Any:
        message = made()
        message.update({"tag": tag, "list": [1, 2]})
        check(made.FromString(message.SerializeToString())["tag"], tag)


class Jinja2(Case):
    distribution = module = "jinja2"

    def create(self) -> Any:
        import jinja2

        return jinja2.Environment(loader=jinja2.DictLoader({"page": "{% for n in range(3) %}{{ tag }}{% endfor %}"}))

    def use(self, made: Any, tag: str) -> Any:
        check(made.get_template("page").render(tag=tag), tag * 3)


class Orjson(Case):
    distribution = module = "orjson"

    def use(self, made: Any, tag: str) -> Any:
        import orjson

        check(orjson.loads(orjson.dumps({"tag": tag})), {"tag": tag})


class Msgpack(Case):
    distribution = module = "msgpack"

    def create(self) -> Any:
        import msgpack

        return msgpack.Packer()

    def use(self, made: Any, tag: str) -> Any:
        import msgpack

        check(msgpack.unpackb(made.pack({"tag": tag})), {"tag": tag})


class Openpyxl(Case):
    distribution = module = "openpyxl"
    rounds = 2

    def use(self, made: Any, tag: str) -> Any:
        import openpyxl

        book, data = openpyxl.Workbook(), io.BytesIO()
        book.active.append([tag, 1])
        book.save(data)
        check(openpyxl.load_workbook(io.BytesIO(data.getvalue())).active["A1"].value, tag)


class Loguru(Case):
    distribution = module = "loguru"

    def create(self) -> Any:
        from loguru import logger

        logger.remove()
        handle, path = tempfile.mkstemp(prefix="fork-safety-")
        os.close(handle)
        logger.add(path, format="{message}")
        return logger, path

    def use(self, made: Any, tag: str) -> Any:
        logger, path = made
        logger.info(tag)
        with open(path, encoding="utf-8") as file:
            check(tag in file.read().split("\n"), True)


class Psutil(Case):
    distribution = module = "psutil"

    def create(self) -> Any:
        import psutil

        return psutil.Process

    def use(self, made: Any, tag: str) -> Any:
        check(made().pid, os.getpid())
        check(made().memory_info().rss > 0, True)
