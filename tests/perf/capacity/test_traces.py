"""Triton's traces."""

import json

import pytest

from perf.capacity import traces


def trace_file(path, *batches):
    """Triton's trace of batches (start ms, end ms, requests), each request queued 1 ms before its start.

    The last answer is computed by the end, each one before it a millisecond earlier.
    """
    entries, number = [], 0
    for start, last, requests in batches:
        for end in range(last - requests + 1, last + 1):
            number += 1
            entries.append({"id": number, "model_name": "m", "model_version": 1})
            times = {
                "REQUEST_START": start - 1,
                "QUEUE_START": start - 1,
                "COMPUTE_START": start,
                "COMPUTE_OUTPUT_START": end - 1,
                "INFER_RESPONSE_COMPLETE": end - 0.5,
                "COMPUTE_END": end,
            }
            stamps = [{"name": name, "ns": int(1e9 + time * 1e6)} for name, time in times.items()]
            entries += [{"id": number, "timestamps": stamps[:3]}, {"id": number, "timestamps": stamps[3:]}]
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.slow
def test_a_trace_tells_executions_and_who_ran_beside_them(tmp_path):
    read = traces.read_trace(trace_file(tmp_path / "a.json", (10, 20, 1), (15, 30, 4), (40, 48, 1)))
    assert read["m"].executions[:, 3].tolist() == [1, 4, 1]
    found = traces.observe([read], {"m": 2}, 1e-4)
    pools = found.executions["m"].pools
    assert {key: pool.tolist() for key, pool in pools.items()} == {
        (1, 0): [pytest.approx([0.0095, 0.010]), pytest.approx([0.0075, 0.008])],
        (4, 1): [pytest.approx([0.0130, 0.015])],  # answered after 11.5, 12.5, 13.5 and 14.5 ms
    }
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(ValueError, match=r"b\.json holds no complete trace"):
        traces.read_trace(tmp_path / "b.json")
