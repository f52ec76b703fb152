"""The Dockerfile fits what it packs: ports, files, user, and the address its health check asks."""

from __future__ import annotations

import json
import re
import tomllib

from pages import ROOT

from relay.cli.config_text import shipped_config
from relay.httpd.health import health_router
from relay.settings import Settings

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
SHIPPED = Settings.model_validate(tomllib.loads(shipped_config()))


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.+)$", TEXT, re.MULTILINE)


def test_the_ports_of_the_shipped_configuration_are_exposed() -> None:
    (exposed,) = instructions("EXPOSE")
    assert {int(port) for port in exposed.split()} == {one.port for one in SHIPPED.listener} | {SHIPPED.http.port}


def test_the_data_folder_is_a_volume() -> None:
    assert instructions("VOLUME") == [str(SHIPPED.server.var)]


def test_what_is_copied_exists_and_is_let_through_to_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for words in (line.split() for line in instructions("COPY") if "--from=" not in line):
        for source in words[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source.partition('/')[0]}" in ignored


def test_it_runs_as_a_number_and_without_a_shell() -> None:
    """Kubernetes checks runAsNonRoot by number; a shell would swallow SIGTERM."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", instructions("USER")[-1])
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["relay"]
    assert json.loads(instructions("CMD")[-1]) == ["serve"]


def test_the_health_check_asks_an_address_that_is_served() -> None:
    (url,) = re.findall(r"RELAY_HEALTH_URL=http://([\d.]+):(\d+)(/\w+)", TEXT)
    assert url[:2] == (SHIPPED.http.address, str(SHIPPED.http.port))
    assert url[2] in {route.path for route in health_router(list, bytes, "").routes}


def test_every_stage_begins_with_one_pinned_image_of_a_python_that_is_supported() -> None:
    images = [line.split()[0] for line in instructions("FROM")]
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:3\.(1[1-9])-slim-bookworm", images[0])
