"""The settings as keywords, for type checkers. A test holds them to the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Overrides"]


class Overrides(TypedDict, total=False):
    """Settings as keywords of `SegmentsClient.from_env`; None stands for one that is not given."""

    workspace_id: str | None
    api_key: str | None
    data_center: str | None
    db_name: str | None
    base_url: str | None
    callback_url: str | None
    requests_per_s: float | None
    connect_timeout_s: float | None
    read_timeout_s: float | None
    total_timeout_s: float | None
    send_by_s: float | None
    max_attempts: int | None
    content_type: str | None
    poll_s: float | None
    proxy: str | None
    trust_env: bool | None
    ca_file: str | Path | None
    snapshots: str | None
    preflight: Literal["error", "warn", "off"] | None
    raise_on_zero_users: bool | None
    on_lost_journal: Literal["wait", "trust"] | None
    allow_http: bool | None
    fetch_private: bool | Literal["loopback"] | None
    operations_per_hour: int | None
    operations_per_day: int | None
    users_per_day: int | None
    active_segments: int | None
    list_per_minute: int | None
    list_per_hour: int | None
    list_per_day: int | None
    create_filter_per_minute: int | None
    create_filter_per_hour: int | None
    create_filter_per_day: int | None
    get_per_minute: int | None
    get_per_hour: int | None
    get_per_day: int | None
    filter_calls_shared: bool | None
    file_bytes: int | None
    minute_s: float | None
    hour_s: float | None
    day_s: float | None
    headroom: Mapping[str, int] | None
    consumes: Mapping[int, bool] | None
    guard_s: float | None
    count_late_s: float | None
    processing_allowance_s: float | None
    external_active_margin: int | None
    remove_counts_operation: bool | None
    replace_counts_operation: bool | None
    remove_counts_users: bool | None
    replace_counts_users: bool | None
    callback_lowers_users: bool | None
    expiry_slack_s: float | None
    expiry_day_s: float | None
    scale: float | None
    speed: float | None
