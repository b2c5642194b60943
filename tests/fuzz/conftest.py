from tests.sanitized import no_report, reports  # noqa: F401 - fixtures
