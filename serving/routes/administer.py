"""The paths of administrators: rules and models."""

from typing import Annotated

from fastapi import APIRouter, Path

from serving.administration import activate, list_rules, list_versions, put_rule
from serving.problems import ProblemError, shown
from serving.routes.deps import ADMIN, ServiceDep
from serving.schemas.writes import ModelsResponse, ModelStatus, Rule, RuleOut, RulesResponse
from serving.store.changes import StoredRule

router = APIRouter(tags=["administration"])
Name = Annotated[str, Path(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._-]+$")]


@router.get("/v1/rules", dependencies=ADMIN)
async def get_rules(service: ServiceDep) -> RulesResponse:
    """Return all rules."""
    return RulesResponse(rules=[_out(stored) for stored in await list_rules(service)])


@router.get("/v1/rules/{name}", dependencies=ADMIN)
async def get_rule(name: Name, service: ServiceDep) -> RuleOut:
    """Return one rule."""
    return (await get_rule_versions(name, service)).rules[0]


@router.get("/v1/rules/{name}/versions", dependencies=ADMIN)
async def get_rule_versions(name: Name, service: ServiceDep) -> RulesResponse:
    """Return all that a rule was, the latest first; put one again to go back to it."""
    found = await list_versions(service, name)
    if not found:
        raise ProblemError(404, f"the rule must be one that exists, got {shown(name)}; GET /v1/rules lists them")
    return RulesResponse(rules=[_out(stored) for stored in found])


@router.put("/v1/rules/{name}", dependencies=ADMIN)
async def put_one_rule(name: Name, body: Rule, service: ServiceDep) -> RuleOut:
    """Make or change a rule; the versions before are kept in the store."""
    return _out(await put_rule(service, name, body))


@router.get("/v1/models")
def get_models(service: ServiceDep) -> ModelsResponse:
    """Say what is loaded, and which bundles of the run could be."""
    found = [
        ModelStatus(version=one.version, state=one.state, reason=one.reason, current=one.current)
        for one in service.releases.candidates()
    ]
    return ModelsResponse(models=found)


@router.post("/v1/models/{version}/activate", dependencies=ADMIN)
async def activate_model(version: Annotated[str, Path(max_length=256)], service: ServiceDep) -> ModelStatus:
    """Swap to a version, or back to one; the one before answers until the new one is loaded, verified and warm."""
    release = await activate(service, version)
    return ModelStatus(version=release.version, state=release.state.value, reason=release.reason, current=True)


def _out(stored: StoredRule) -> RuleOut:
    return RuleOut(
        name=stored.name, version=stored.version, updated_at=stored.at, rule=Rule.model_validate(stored.body)
    )
