"""Parameters and settings of the session."""

from .case import ENDS, FAILS, REFUSED, Case, Differs, ask, config, parameter, unary

Y = ({"y": [[-1.0]]},)
X = (ask(x=[[1.0]]),)
NEG = unary(["n", 1])


def given(name, key, value, nvidia, **more):
    asks = () if nvidia in (REFUSED, ENDS) else X
    return Case(name, NEG, config(more=parameter(key, value)), nvidia, asks, **more)


NEVER = Differs(REFUSED, "A configuration with which every request would fail", "TV705")
THREADS, ARENA, PATTERN = "intra_op_thread_count", "enable_mem_arena", "enable_mem_pattern"
SHRINK, MODE = "memory.enable_memory_arena_shrinkage", "execution_mode"

CASES = [
    given("threads_2", THREADS, "2", Y),
    given("threads_fraction", THREADS, "2.5", Y),
    given("threads_blank", THREADS, " 2", Y),
    given("threads_letters_behind", THREADS, "2abc", Y),
    given("threads_plus", THREADS, "+2", Y),
    given("threads_underscore", THREADS, "1_0", Y),
    given("threads_minus", THREADS, "-3", Y),
    given("threads_hex", THREADS, "0x10", Y),
    given("threads_empty", THREADS, "", REFUSED, says=THREADS),
    given("threads_word", THREADS, "two", REFUSED, says=THREADS),
    given("threads_arabic", THREADS, "٣", REFUSED, says=THREADS),
    given("threads_huge", THREADS, "99999999999", ENDS, says=THREADS, differs=Differs(REFUSED,
         "beyond 32 bits", "TV705")),
    given("inter_fraction", "inter_op_thread_count", "1.9", Y),
    given("inter_word", "inter_op_thread_count", "one", REFUSED, says="inter_op_thread_count"),
    given("mode_1", MODE, "1", Y),
    given("mode_fraction", MODE, "1.7", Y),
    given("mode_2", MODE, "2", REFUSED, says=MODE),
    given("mode_minus", MODE, "-1", REFUSED, says=MODE),
    given("mode_word", MODE, "parallel", REFUSED, says=MODE),
    given("arena_empty", ARENA, "", REFUSED, says=ARENA),
    given("arena_off", ARENA, "OFF", Y),
    given("arena_true", ARENA, "True", Y),
    given("arena_yes", ARENA, "yes", REFUSED, says=ARENA),
    given("arena_blank", ARENA, " 1", REFUSED, says=ARENA),
    given("pattern_empty", PATTERN, "", REFUSED, says=PATTERN),
    given("pattern_on", PATTERN, "on", Y),
    given("pattern_2", PATTERN, "2", REFUSED, says=PATTERN),
    given("shrink_cpu", SHRINK, "cpu:0", Y),
    given("shrink_empty", SHRINK, "", Y),
    given("shrink_gpu", SHRINK, "gpu:0", (FAILS,), says=SHRINK, differs=NEVER),
    given("shrink_word", SHRINK, "always", (FAILS,), says=SHRINK, differs=NEVER),
    given("shrink_cpu_1", SHRINK, "cpu:1", (FAILS,), says=SHRINK, differs=NEVER),
    given("unknown_parameter", "nobody_reads_this", "x", Y),
    given("cuda_parameter_on_cpu", "cudnn_conv_algo_search", "9", Y),
    given("global_pool_parameter", "enable_global_threadpool", "1", Y),
    given("device_initializers", "session.use_device_allocator_for_initializers", "yes", Y),
    given("share_session", "share_session_between_instances", "maybe", Y),
    Case("shrink_without_arena", NEG, config(more=parameter(SHRINK, "cpu:0") + parameter(ARENA, "0")),
         (FAILS,), X,
         says=SHRINK, differs=NEVER),
    Case("no_arena_open", unary(["n", "w"]), config("-1", "-1", more=parameter(ARENA, "0")), Y, X),
    Case("arena_open", unary(["n", "w"]), config("-1", "-1"), Y, X),
    Case("level_odd", NEG, config(more="optimization { graph { level: 7 } }"), Y, X),
    Case("level_2", NEG, config(more="optimization { graph { level: 2 } }"), Y, X),
    Case("accelerator_unknown", NEG, config(more="optimization { execution_accelerators {"
         ' cpu_execution_accelerator { name: "warp" } } }'), REFUSED, says="warp"),
    Case("accelerator_gpu_on_cpu", NEG, config(more="instance_group { kind: KIND_CPU } optimization {"
         ' execution_accelerators { gpu_execution_accelerator { name: "warp" } } }'), Y, X),
    Case("op_library_missing", NEG, config(more='model_operations { op_library_filename: "none.so" }'),
         REFUSED,
         says="none.so"),
    Case("priority_min", NEG, config(more="optimization { priority: PRIORITY_MIN }"), Y, X),
]  # fmt: skip
