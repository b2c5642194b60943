"""What all questions of a client may spend on asking again. tests/chaos counts what reaches a gateway."""

import contextlib

import pytest

import client
from client.conversation import retrying
from client.conversation.flows import Conversation, Settings
from client.conversation.retrying import Probes, Retries, RetryBudget, RetryPolicy
from client.errors import from_server
from client.transport.protocol import Inference, Pause
from server.operations.gateway.config import answers, frontend
from tests.client.conversation.test_flows import ANSWER, ENCODED, QUESTION
from tests.scripts import Script

BUSY = from_server("StatusCode.RESOURCE_EXHAUSTED", "the servers are busy, so the request was refused", "u")


def asked(conversation, *answers):
    """How often a question was asked, and the seconds of its pauses."""
    script = Script(*answers)
    with contextlib.suppress(client.VisionError):
        script.run(conversation.ask(QUESTION, b"jpeg", 0))
    inferences = sum(isinstance(step, Inference) for step in script.steps)
    return inferences, [step.seconds for step in script.steps if isinstance(step, Pause)]


@pytest.mark.parametrize("retries", [1, 3, 30])
def test_a_lone_question_has_all_of_its_retries(retries):
    budget = RetryBudget(retries)
    for _ in range(retries):
        budget.failed()
        assert budget.allows()


def test_failures_use_the_budget_up_and_successes_fill_it():
    budget = RetryBudget(3)
    for _ in range(5):
        assert budget.allows()
        budget.failed()
    assert not budget.allows()
    for _ in range(11):
        budget.succeeded()
    assert budget.allows()
    for _ in range(1000):
        budget.succeeded()
    for _ in range(5):
        budget.failed()
    assert not budget.allows()  # no more is saved than there was


def test_an_overload_is_asked_again_a_few_times_in_all_not_by_each_question():
    conversation = Conversation("u", Settings(retry=RetryPolicy(3)))
    assert asked(conversation, ENCODED, ANSWER) == (1, [])
    counts = [asked(conversation, *[BUSY] * 4)[0] for _ in range(200)]
    assert counts[0] == 4
    assert sum(counts) <= 1.1 * len(counts)


def test_who_says_when_is_asked_then():
    conversation = Conversation("u", Settings(retry=RetryPolicy(1, first_wait_s=0.1)))
    count, (pause,) = asked(conversation, ENCODED, BUSY, ANSWER)
    assert count == 2
    assert 1 <= pause <= 1.1


@pytest.mark.parametrize("status", ["StatusCode.RESOURCE_EXHAUSTED", "429"])
def test_an_overload_without_a_time_to_come_back_is_final(status):
    conversation = Conversation("u", Settings(retry=RetryPolicy(3)))
    assert asked(conversation, ENCODED, from_server(status, "quota", "u")) == (1, [])


@pytest.mark.parametrize("refusal", [frontend.RATE, frontend.CONCURRENCY, answers.ERRORS[503]])
def test_the_gateway_and_the_client_agree_when_to_come_back(refusal):
    for status in ("StatusCode.RESOURCE_EXHAUSTED", str(refusal.status)):
        error = from_server(status, refusal.message, "u")
        assert isinstance(error, client.ServerOverloaded)
        assert error.retry_after_s == answers.RETRY_AFTER_S
    assert refusal.retry


def test_of_those_that_wait_one_asks(monkeypatch):
    policy, budget = RetryPolicy(), RetryBudget(3)
    probes = Probes(budget)
    conversation = Conversation("u", Settings())
    first, second = (Retries(policy, conversation.deadline(), budget) for _ in range(2))
    assert probes.may_ask(None, second)  # nothing is away
    probes.away(None)
    assert probes.may_ask(None, first)
    assert not probes.may_ask(None, second)
    assert probes.may_ask(None, first)
    assert probes.may_ask("another", second)
    probes.let_go(first)
    assert not probes.may_ask(None, second)  # many may be given up at once
    monkeypatch.setattr(retrying, "HANDOVER_S", 0)
    assert probes.may_ask(None, second)
    assert not probes.may_ask(None, first)
    probes.back(None)
    assert probes.may_ask(None, first)
    assert probes.may_ask(None, second)


def test_where_every_other_question_fails_one_at_a_time_is_asked_again():
    """As of two servers behind a balancer that does not notice: each success seems to end the outage."""
    budget = RetryBudget(3)
    probes = Probes(budget)
    conversation = Conversation("u", Settings())
    first, second = (Retries(RetryPolicy(), conversation.deadline(), budget) for _ in range(2))
    for _ in range(20):
        budget.failed()
        budget.succeeded()
        probes.away(None)
        probes.back(None)
    assert probes.may_ask(None, first)
    assert not probes.may_ask(None, second)
