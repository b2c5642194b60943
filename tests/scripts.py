"""Answers in place of a server, for the client's flows, which do no input or output."""

from client.transport.protocol import LocalWork, Pause


class Script:
    """Runs a flow against a list of outcomes and keeps the steps that it asked for."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.steps = []

    def run(self, flow):
        try:
            step = next(flow)
            while True:
                self.steps.append(step)
                if isinstance(step, (Pause, LocalWork)):
                    step = flow.send(step.function(*step.arguments) if isinstance(step, LocalWork) else None)
                    continue
                outcome = self.outcomes.pop(0)
                step = flow.throw(outcome) if isinstance(outcome, Exception) else flow.send(outcome)
        except StopIteration as stop:
            return stop.value
