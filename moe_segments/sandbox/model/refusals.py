"""Refuse requests that the segments which are there do not allow: by name, state and definition. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_segments.sandbox.model.records import Kind, Op, Refusal

if TYPE_CHECKING:
    from moe_segments.sandbox.model.records import Ask, FilterAsk, SandboxSegment
    from moe_segments.sandbox.model.registry import Registry

__all__ = ["not_found", "refuse_active", "refuse_definition", "refuse_target"]


def refuse_target(registry: Registry, ask: Ask, found: SandboxSegment | None) -> Refusal | None:
    """Return why a file operation does not fit the segment that was found for it; None when it does."""
    if ask.op is Op.CREATE:
        if not registry.is_taken(ask.name):
            return None
        return Refusal(status=409, title="Resource not created", description=f"{ask.name!r} is a name in use.")
    if found is None or found.kind is Kind.FILTER:
        return not_found(ask.name, ask.cs_id)
    if not found.is_active:
        text = "The segment is archived: unarchive it first."
        return Refusal(status=400, title="Invalid Request", description=text)
    return None


def refuse_definition(registry: Registry, ask: FilterAsk, segment: SandboxSegment | None = None) -> Refusal | None:
    """Return why a segment cannot have the definition or the name that is asked for; None when it can.

    Args:
        registry: The segments.
        ask: What is asked for.
        segment: The segment that is updated; None for a new one.
    """
    if missing := registry.missing(ask.definition):
        text = f"The filters refer to {missing!r}, which no segment has as its id."
        return Refusal(status=404, title="Entity Not Found", description=text)
    if ask.name is not None and registry.is_taken(ask.name, but_by=segment):
        text = f"Another segment has or had the name {ask.name!r}: choose another."
        return Refusal(status=409, title="Resource not created", description=text)
    if twin := registry.twin(ask.definition, but=segment):
        text = f"The segment {twin.name!r} has the same filters: use it, or change the filters."
        return Refusal(status=409, title="Resource not created", description=text, existing=twin)
    if segment is not None and registry.is_cyclic(segment, ask.definition):
        text = "With these filters the segment would refer to itself."
        return Refusal(status=412, title="Cyclic Entity", description=text)
    return None


def refuse_active(active: int, capacity: int, *, taken: int) -> Refusal | None:
    """Return the 429 of a request that makes *taken* segments more active than may be; None when they fit."""
    if active + taken <= capacity:
        return None
    return Refusal(
        status=429,
        title="Too Many Requests",
        description=f"{active} segments are active and {capacity} may be: archive one first.",
        limit="active_segments",
        used=active,
        capacity=capacity,
    )


def not_found(name: str, cs_id: str | None) -> Refusal:
    """Return the 404 of a segment that is not there."""
    what = f"cs_id {cs_id!r}" if cs_id else f"name {name!r}"
    return Refusal(status=404, title="Entity Not Found", description=f"No segment has the {what}.")
