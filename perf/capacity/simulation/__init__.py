"""A discrete-event simulation of one Triton server: arrivals, dynamic batcher, instances that share cores.

Times are seconds everywhere in this package. What a request takes is not modelled but drawn from measured
executions (`Observed`), so its variability is that of the machine it was measured on.
"""

from perf.capacity.simulation.arrivals import DISTRIBUTIONS, arrivals
from perf.capacity.simulation.batching import Batcher
from perf.capacity.simulation.observed import ExecutionTimes, Observed
from perf.capacity.simulation.server import SimulatedLoad, simulate

__all__ = ["DISTRIBUTIONS", "Batcher", "ExecutionTimes", "Observed", "SimulatedLoad", "arrivals", "simulate"]
