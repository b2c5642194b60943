"""How a model repository on disk is read before a server looks at it."""

from server.environment.repository import config_text, repository_models

ENSEMBLE = 'platform: "ensemble"\nensemble_scheduling { step { model_name: "m" model_version: -1 } }\n'


def test_a_byte_order_mark_hides_nothing(tmp_path):
    """Triton skips it, so the first field counts as it does without."""
    for name, mark in (("marked", "\ufeff"), ("plain", "")):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(mark + ENSEMBLE, encoding="utf-8")
    assert [(model.name, model.is_ensemble, model.steps) for model in repository_models(tmp_path)] == [
        ("marked", True, ("m",)),
        ("plain", True, ("m",)),
    ]
    assert config_text(tmp_path / "marked" / "config.pbtxt") == ENSEMBLE
