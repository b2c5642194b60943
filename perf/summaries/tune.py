"""Policies as words, as raw results of `python -m perf tune` hold them."""

from collections.abc import Mapping
from typing import Any

__all__ = ["policy_words"]


def policy_words(policy: Mapping[str, Any]) -> str:
    """ "2 instance(s) x 1 thread(s), sizes 4 8, delay 500 us", of a `perf.tuning.policy.Policy` as a dict."""
    groups, threads = policy["groups"], policy["threads"]
    count = sum(group["count"] for group in groups) or "default"
    each = {None: "", 0: " x one thread per core"}.get(threads, f" x {threads} thread(s)")
    where = " + ".join(f"{one['count']} {one['host_policy']}" for one in groups if one["host_policy"])
    parts = [f"{count} instance(s){each}" + (f" ({where})" if where else "")]
    batching = policy["batching"]
    if batching is None:
        parts.append("no batching")
    else:
        parts.append("sizes " + (" ".join(map(str, batching["preferred"])) or "any"))
        parts.append(f"delay {batching['delay_us']} us")
    if policy["spinning"] is not None:
        parts.append("spinning" if policy["spinning"] else "not spinning")
    return ", ".join(parts)
