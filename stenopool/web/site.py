"""API and page in one application, as they are served."""

from __future__ import annotations

from fastapi import FastAPI

from stenopool.api.app import make_app
from stenopool.config import Config
from workers.farm import Farm


def make_site(farm: Farm, config: Config) -> FastAPI:
    """The API of a farm, and its page."""
    return make_app(farm, config)


def from_env() -> FastAPI:
    """That of the farm that the settings name: what each process of a server makes for itself."""
    config = Config.from_env()
    return make_site(Farm.find(config), config)
