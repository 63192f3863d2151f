"""The paths of the HTTP API; what they do is in the modules they call."""

from fastapi import APIRouter

from serving.routes import administer, health, read, recommend, write

router = APIRouter()
for module in (recommend, read, write, administer, health):
    router.include_router(module.router)
