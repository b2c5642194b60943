"""How each documented command is run by the tests, or why it is not.

Patterns are those of `fnmatch`; the first that fits counts, so special ones come first. README.md and
docs/how-to/client.md are run as they are; what is on other pages needs a line here, unless one fits already:

    Here("python -m perf report")                                      run as it is written
    Here("python -m perf cost*", "python -m perf cost --rounds=1")     run in short, as the second says
    RunBy("python -m server doctor", "tests/server/test_expose.py::test_x")   another test runs it
    NotRun("docker *", "it needs a Docker engine")
"""

from dataclasses import dataclass

__all__ = ["REGISTRY", "Here", "NotRun", "RunBy"]


@dataclass(frozen=True)
class Here:
    """Run in a copy of the project. short: what is run instead of the command itself.

    long: by `make test-long` only.
    """

    pattern: str
    short: str = ""
    long: bool = False


@dataclass(frozen=True)
class RunBy:
    pattern: str
    test: str


@dataclass(frozen=True)
class NotRun:
    pattern: str
    reason: str


TINY_GRU = "python -m export perf/benchmarks/tiny_gru.py:spec"
CAPACITY = "python -m perf capacity efficientnet_lite0 --rate 800 --slo-p99-ms 100 --scale 1,4 --json"
QUICK = "--rounds=1 --seconds=0.2"
NAME = "it names the program, or its kinds of commands, and nothing to run"
INSTALLS = "it would change the environment that the tests run in"
DOCKER = "it needs a Docker engine and the image; tests/test_compose.py runs what the files say"
GPU = "it needs a GPU, or tests/test_gpu.py to be run beside it"
HOURS = "it takes an hour; tests/training/test_loop.py trains for some steps"
CI = "`.ci/run` runs it"
NPM = "its weights come by npm, which not every machine has"

GATEWAY = "tests/server/operations/gateway"
CONTROL = "tests/server/operations/control/test_commands.py"
COME_AND_GO = "test_no_request_is_lost_as_servers_are_replaced_and_come_and_go"
NAME_OF_A_KEY = "the key is one's own; tests/client/clients/test_behind_a_gateway.py sends one"

REGISTRY: tuple[Here | RunBy | NotRun, ...] = (
    # names
    NotRun("python -m client", NAME),
    NotRun("python -m perf", NAME),
    NotRun("python -m perf COMMAND", NAME),
    NotRun("python -m training", NAME),
    NotRun("triton-vision", NAME),
    NotRun("docker", NAME),
    NotRun("docker compose", NAME),
    NotRun("python -m export face_embedder", NPM),
    NotRun("python -m export detector*", NPM),
    NotRun("python -m export use", NAME),
    NotRun("python -m export use MODEL --in PIPELINE", NAME),
    NotRun("python -m export COMMAND", NAME),
    NotRun("triton-vision-server", NAME),
    NotRun("triton-vision-server REPOSITORY", NAME),
    NotRun("python -m export check-batching", NAME),
    # make
    Here("make"),
    Here("make help"),
    NotRun("make setup*", CI),
    NotRun("make lint", CI),
    NotRun("make test", CI),
    NotRun("make test-all", CI),
    NotRun("make test-containers", CI),
    NotRun("make test-long", "it runs this"),
    NotRun("make chaos", "it runs tests, those of tests/chaos"),
    NotRun(
        "make docs", "it installs mkdocs-material; tests/test_pages.py checks what it would, but the theme"
    ),
    NotRun("make clean", "it removes the environment that the tests run in"),
    RunBy("make demo*", "tests/test_make.py::test_the_demo_is_short_and_ends_with_commands_that_work"),
    RunBy("python demo.py", "tests/test_make.py::test_the_demo_is_short_and_ends_with_commands_that_work"),
    RunBy("make web", "tests/test_make.py::test_server_and_page_start_and_stop_together"),
    RunBy("make serve", "tests/server/test_launcher.py::test_sigterm_stops_the_command_line_in_order"),
    Here("make export", "python -m export --all", long=True),
    RunBy("make conformance", "tests/serving/test_conformance.py::test_node_passes_served_as_in_process"),
    RunBy(
        "make trt-parse",
        "tests/export/pipelines/plans/test_rtx.py::test_every_exported_graph_fares_as_recorded",
    ),
    NotRun("make sanitize", "it builds with ASan and takes minutes; tests/fuzz is what it runs"),
    RunBy(
        "make throughput",
        "tests/perf/benchmarks/test_throughput.py::test_throughput_reports_both_sides_and_the_breakdown",
    ),
    Here("make perf", "python -m perf all --only waterfall", long=True),
    NotRun("make train", HOURS),
    Here(
        "make evaluate",
        "python -m training evaluate text_recognizer --no-peers --lines 20 --output evaluated.json",
        long=True,
    ),
    # client
    RunBy(
        "python -m client web *", "tests/client/cli/test_page.py::test_it_says_where_it_is_and_whom_it_asks"
    ),
    RunBy("python -m client web", "tests/client/cli/test_page.py::test_it_says_where_it_is_and_whom_it_asks"),
    RunBy("triton-vision web", "tests/client/test_wheel.py::test_the_page_comes_with_an_extra"),
    RunBy("triton-vision *", "tests/client/test_wheel.py::test_commands_of_its_page_run"),
    RunBy("python -m client classify photo.jpg", "tests/test_readme.py::test_commands_of_the_readme_run"),
    RunBy(
        "python -m client classify photo.jpg --model my_net",
        "tests/client/images/test_fitting.py::test_from_the_command_line",
    ),
    RunBy(
        "python -m client classify photo.jpg --model places365_resnet18",
        "tests/export/networks/test_places.py::test_a_places365_checkpoint_is_exported",
    ),
    RunBy(
        "python -m client explain cat.jpg --json",
        "tests/client/cli/test_explaining.py::test_json_has_all_but_the_heatmap",
    ),
    RunBy(
        "python -m client robustness photographs *",
        "tests/client/cli/robustness/test_page.py::test_the_table_of_the_page_holds",
    ),
    # export
    RunBy(
        "python -m export examples/my_net.py:spec --checkpoint my_net.pth --explain",
        "tests/export/pipelines/class_maps/test_pipeline.py::test_the_example_of_the_pages_is_explained",
    ),
    RunBy(
        "python -m export * --explain",
        "tests/export/pipelines/class_maps/test_pipeline.py::test_a_file_and_its_sibling_are_published_and_served",
    ),
    RunBy(
        "python -m export NAME_cam",
        "tests/export/pipelines/class_maps/test_pipeline.py::test_a_sibling_of_the_catalogue_has_a_name_of_its_own",
    ),
    RunBy(
        "python -m export places365_resnet18 --checkpoint *",
        "tests/export/networks/test_places.py::test_a_places365_checkpoint_is_exported",
    ),
    Here("python -m export --help"),
    Here("python -m export --all", long=True),
    NotRun("python -m export NAME", NAME),
    NotRun("python -m export MODEL*", NAME),
    RunBy("python -m export efficientnet_lite0", "tests/test_readme.py::test_commands_of_the_readme_run"),
    RunBy(
        "python -m export resnet50 --checkpoint *",
        "tests/export/cli/test_models.py::test_another_checkpoint_becomes_a_new_version_that_says_so",
    ),
    RunBy(
        "python -m export my_net.py:spec --checkpoint my_net.pth --precision int8 --calibration photos/",
        "tests/export/pipelines/quantization/test_quantization.py::test_a_folder_of_pictures_calibrates_a_spec_that_has_none",
    ),
    RunBy(
        "python -m export * --precision fp16",
        "tests/export/pipelines/quantization/test_quantization.py::test_fp16_is_within_its_tolerance_and_keeps_the_tensors_types",
    ),
    Here(
        f"{TINY_GRU} *",
        f"{TINY_GRU} --random-weights --model-repository tiny --no-serve-check",
    ),
    RunBy(
        "python -m export trt-parse*",
        "tests/export/pipelines/plans/test_rtx.py::test_every_exported_graph_fares_as_recorded",
    ),
    Here("python -m export efficientnet_lite0 --tensorrt * --dry-run*", long=True),
    RunBy(
        "python -m export * --tensorrt*",
        "tests/export/pipelines/plans/test_plans.py::test_a_plan_is_built_verified_and_published",
    ),
    Here("python -m export text_recognizer --accelerator *"),
    Here("python -m export copies"),
    RunBy("python -m export sign*", "tests/export/cli/test_sign.py::test_the_commands_of_the_page"),
    RunBy(
        "python -m server --verify-key*",
        "tests/server/environment/trust/test_serving_signed.py::test_a_start_serves_what_is_signed_and_names_what_is_not",
    ),
    RunBy(
        "triton-vision-server models/ --verify-key *",
        "tests/server/test_wheel.py::test_only_signed_models_are_served",
    ),
    RunBy("python -m export use * --in *", "tests/export/cli/test_use.py::test_the_command"),
    Here(
        "python -m export resnet50 --random-weights",
        "python -m export resnet50 --random-weights --no-serve-check",
        long=True,
    ),
    Here(
        "python -m export examples/my_net.py:spec --random-weights",
        "python -m export examples/my_net.py:spec --random-weights --no-serve-check --model-repository mine",
    ),
    RunBy(
        "python -m export efficientnet_lite0 --precision int8",
        "tests/export/pipelines/quantization/test_quantization.py::test_the_command_refuses_a_large_drop_and_publishes_nothing",
    ),
    Here("python -m export lint /path/to/models", "python -m export lint model_repository"),
    Here("python -m export lint models *", "python -m export lint model_repository --target cpu --json"),
    Here("python -m export releases"),
    Here("python -m export releases --page"),
    RunBy(
        "python -m export releases --advisories *",
        "tests/export/lint/releases/test_advisories.py::test_the_command_reads_bulletins_of_triton_and_of_nothing_else",
    ),
    RunBy(
        "python -m export releases --refresh",
        "tests/export/lint/releases/test_served.py::test_the_limits_and_operators_of_a_wheel_are_asked_of_it",
    ),
    RunBy(
        "python -m export releases --graphs",
        "tests/export/lint/releases/test_served.py::test_graphs_run_and_agree",
    ),
    NotRun("python -m export savedmodel", NAME),
    RunBy(
        "python -m export savedmodel *",
        "tests/export/pipelines/savedmodels/test_door.py::test_all_signatures_from_the_command_and_what_fails_stops_no_other",
    ),
    NotRun("python -m export from-tfserving", NAME),
    RunBy(
        "python -m export from-tfserving *",
        "tests/export/repository/tfserving/test_translation.py::test_for_people_it_is_a_table_and_commands",
    ),
    RunBy(
        "python -m export *.onnx*",
        "tests/export/pipelines/onnx_files/test_door.py::test_public_files_are_published",
    ),
    RunBy(
        "python -m export check-batching *",
        "tests/export/cli/test_check_batching.py::test_samples_and_tolerances_can_be_given",
    ),
    # perf
    Here("python -m perf all*", "python -m perf all --only waterfall", long=True),
    Here("python -m perf run --list"),
    NotRun("python -m perf run MODEL", NAME),
    NotRun("python -m perf run", NAME),
    Here("python -m perf run --profile cnn", f"python -m perf run --profile cnn --concurrency=1 {QUICK}"),
    Here(
        "python -m perf run --profile *",
        f"python -m perf run --profile jpeg --concurrency=1 {QUICK}",
        long=True,
    ),
    RunBy(
        "python -m perf run *",
        "tests/perf/benchmarks/test_run.py::test_a_run_keeps_every_level_with_what_was_sent_and_served",
    ),
    Here("python -m perf inputs *", "python -m perf inputs efficientnet_lite0 recognize_objects text_stream"),
    Here("python -m perf report", long=True),
    Here("python -m perf report [[]FILE...]", "python -m perf report perf/results/run-cnn.json"),
    Here("python -m perf report perf/out/*", "python -m perf report perf/results/run-jpeg.json"),
    Here("python -m perf report --readme*", "python -m perf report --readme"),
    Here("python -m perf waterfall", f"python -m perf waterfall {QUICK}", long=True),
    Here(
        "python -m perf batching*",
        "python -m perf batching efficientnet_lite0 --concurrency 16 --rounds=1 --seconds=1",
    ),
    Here("python -m perf cost*", f"python -m perf cost width {QUICK}", long=True),
    RunBy(
        "python -m perf throughput*",
        "tests/perf/benchmarks/test_throughput.py::test_throughput_reports_both_sides_and_the_breakdown",
    ),
    NotRun(
        "python -m perf precision*",
        "it takes some minutes; tests/perf/report/test_report.py draws what it wrote",
    ),
    RunBy("python -m perf explanations*", "tests/perf/benchmarks/test_explanations.py::test_a_short_run"),
    Here(
        "python -m perf decoders*",
        "python -m perf decoders --rounds=1 --output perf/out/decoders.json",
        long=True,
    ),
    NotRun(
        "python -m perf streaming*",
        "it takes minutes; tests/serving/test_text_stream.py holds the memory of sequences",
    ),
    NotRun(
        "python -m perf kills*",
        "it takes minutes; tests/server/watching/test_supervisor.py kills each kind of process",
    ),
    RunBy("python -m perf haproxy*", "tests/perf/benchmarks/gateways/test_haproxy.py::test_a_short_run"),
    RunBy("python -m perf gateway*", "tests/perf/benchmarks/gateways/test_tfserving.py::test_a_short_run"),
    Here("python -m perf compare --show *"),
    NotRun("python -m perf compare --install", "it downloads 1.9 GB"),
    Here(
        "python -m perf compare*",
        "python -m perf compare --jobs jpeg --peers none --ours 2x1 --concurrency 1 --rounds 1 --seconds 1",
        long=True,
    ),
    NotRun("python -m perf capacity", NAME),
    NotRun(
        "python -m perf capacity --measure*",
        "it takes minutes; tests/perf/capacity/simulation simulates and compares",
    ),
    NotRun("python -m perf capacity * --measure", "it takes minutes"),
    Here("python -m perf capacity --rate *", CAPACITY),
    Here("python -m perf capacity efficientnet_lite0 *", CAPACITY),
    NotRun("python -m perf tune", NAME),
    RunBy(
        "python -m perf tune *", "tests/perf/tuning/test_tune.py::test_a_winner_is_written_on_a_real_server"
    ),
    RunBy("perf/scripts/*", "tests/perf/test_scripts.py::test_scripts_measure_with_plain_perf_analyzer"),
    # server
    RunBy("curl --header *x-api-key*", f"{GATEWAY}/test_entrance.py::test_a_key_is_taken_in_either_header"),
    RunBy("python -m server --gateway*", f"{GATEWAY}/test_fleet.py::test_requests_reach_every_server"),
    RunBy(
        "python -m server gateway render *",
        "tests/test_compose.py::test_the_gateway_starts_is_healthy_reloads_and_stops",
    ),
    RunBy(
        "python -m server rollout*",
        "tests/server/operations/rollout/test_rollout.py::test_what_is_as_good_is_promoted",
    ),
    RunBy("python -m server status", f"{CONTROL}::test_a_launcher_from_its_start_to_its_stop"),
    RunBy("python -m server reload*", f"{CONTROL}::test_a_launcher_from_its_start_to_its_stop"),
    RunBy("python -m server stop", f"{CONTROL}::test_a_launcher_from_its_start_to_its_stop"),
    RunBy("python -m server gateway status", f"{GATEWAY}/test_fleet.py::test_it_is_seen"),
    RunBy("python -m server gateway*", f"{GATEWAY}/test_fleet.py::{COME_AND_GO}"),
    RunBy("python -m server keys*", f"{GATEWAY}/test_keys.py::test_the_commands"),
    NotRun("python -m client classify photo.jpg --api-key-file alice.key", NAME_OF_A_KEY),
    RunBy("python -m server", "tests/server/test_launcher.py::test_sigterm_stops_the_command_line_in_order"),
    RunBy(
        "python -m server --trace",
        "tests/serving/test_traces.py::test_a_photograph_from_client_to_steps",
    ),
    RunBy(
        "curl http://127.0.0.1:8003/ready",
        "tests/server/watching/test_status_page.py::test_a_check_waits_until_the_start_is_over",
    ),
    RunBy(
        "python -m server trace*",
        "tests/serving/test_traces.py::test_the_newest_is_shown_where_none_is_named",
    ),
    RunBy(
        "python -m client classify photo.jpg --trace",
        "tests/serving/test_traces.py::test_a_photograph_from_client_to_steps",
    ),
    RunBy(
        "python -m server --log-format json",
        "tests/serving/test_traces.py::test_one_id_joins_the_error_and_the_servers_line",
    ),
    RunBy(
        "python -m server --http-port *",
        "tests/server/test_launcher.py::test_sigterm_stops_the_command_line_in_order",
    ),
    RunBy(
        "python -m server --tfserving*",
        "tests/server/watching/test_gateway.py::test_it_is_started_again_on_its_ports",
    ),
    RunBy(
        "python -m server.tfserving*",
        "tests/server/tfserving/test_cli.py::test_it_stands_beside_any_triton",
    ),
    RunBy(
        "triton-vision-server models/ --tfserving",
        "tests/server/test_wheel.py::test_clients_of_tensorflow_serving_are_answered",
    ),
    RunBy(
        "python -m server --no-restart",
        "tests/server/watching/test_supervisor.py::test_without_restarts_a_death_is_told",
    ),
    RunBy(
        "python -m server -- --model-control-mode=poll *",
        "tests/server/watching/test_supervisor.py::test_under_polling_it_says_that_it_cannot_and_polling_replaces",
    ),
    RunBy(
        "python -m server --address *",
        "tests/server/running/test_doors.py::test_on_another_address_all_of_them_are_closed_and_opened_by_name",
    ),
    RunBy(
        "python -m server --open *",
        "tests/server/running/test_doors.py::test_on_another_address_all_of_them_are_closed_and_opened_by_name",
    ),
    NotRun("python -m server doctor --require-gpu", GPU),
    RunBy(
        "python -m server doctor --advisories",
        "tests/server/operations/doctor/test_security.py::test_the_command_lists_them",
    ),
    RunBy(
        "triton-vision-server doctor*",
        "tests/server/test_wheel.py::test_what_it_says_names_nothing_of_this_repository",
    ),
    RunBy(
        "triton-vision-server --help",
        "tests/server/test_wheel.py::test_what_it_says_names_nothing_of_this_repository",
    ),
    RunBy("triton-vision-server models/*", "tests/server/test_wheel.py::test_the_command_serves_it"),
    # training
    Here(
        "python -m training evaluate*",
        "python -m training evaluate text_recognizer --no-peers --lines 20 --output evaluated.json",
        long=True,
    ),
    NotRun("python -m training text_*", HOURS),
    # others' programs
    RunBy("curl --silent * http://localhost:8501*", "tests/server/tfserving/test_page.py::test_its_curl"),
    RunBy("curl --silent*", "tests/test_readme.py::test_curl_of_the_readme_runs"),
    RunBy(
        "curl http://localhost:8003/ready",
        "tests/server/watching/test_supervisor.py::test_the_status_page",
    ),
    NotRun("docker *", DOCKER),
    NotRun("pip *", INSTALLS),
    NotRun("python deploy/gpu_check.py*", GPU),
)
