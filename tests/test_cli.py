# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a user meets on the command line: help, errors in a sentence, exit statuses, quiet."""

import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import pytest
from paths import ROOT

from leverplus_trl import __main__ as runner
from leverplus_trl import __version__, cli
from leverplus_trl.launch import find_accelerate_config, guarded, sentence, what_is_saved
from leverplus_trl.log import Progress, doing, set_up_log
from leverplus_trl.scripts.parsers import PARSERS, make_parser


DEMO = str(ROOT / "recipes" / "demo" / "10_beams.yaml")


def run_main(*words):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return ended.value.code


@pytest.mark.parametrize("stage", PARSERS)
def test_help_fits_on_a_page_and_says_required_keys_first(stage, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert run_main(stage, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 100 and max(map(len, lines)) < 120
    titles = [line for line in lines if re.fullmatch(r"\S.*:", line)]
    assert all(len(title) < 25 or "TrainingArguments" in title for title in titles)
    assert titles[0] == "Required:" and any("--output_dir" in line for line in lines)
    text = "\n".join(lines)
    if stage == "beams":
        names = [
            "Required",
            "Data",
            "Task and prompt",
            "VLM",
            "Decoding",
            "Candidates and encoder",
            "Beam search",
            "Hub",
        ]
        assert titles == [f"{name}:" for name in (*names, "Parallel runs", "Run", "Messages")]
        assert text.index("--vlm ") < text.index("--num_candidates") and "Candidates of each query (K). [64]" in text
    if stage == "sft":
        assert "Highest learning rate. [0.003]" in text and "--adam_beta1" not in text


@pytest.mark.parametrize(
    ("example", "found"),
    [
        (["--data_files", "{train: a.csv, test: b.csv}"], {"train": "a.csv", "test": "b.csv"}),
        (["--columns", "{question: prompt, answer: reply}"], {"question": "prompt", "answer": "reply"}),
        (["--split", "{pool: 0.6, train: 0.2, test: 0.2}"], {"pool": 0.6, "train": 0.2, "test": 0.2}),
        (["--labels", "yes", "no"], ["yes", "no"]),
    ],
)
def test_examples_in_the_help_are_taken_as_they_stand(example, found):
    parser = make_parser("beams")
    assert " ".join(example[1:]) in parser.format_help()
    values = parser.convert(*parser.read(["--config", DEMO, *example]))
    assert values[example[0][2:]] == found


def test_all_fields_of_transformers_are_listed_on_demand(capsys):
    assert run_main("sft", "--help_all") == 0
    text = capsys.readouterr().out
    assert "--adam_beta1" in text and "--gradient_accumulation_steps" in text


def test_help_and_mistakes_import_nothing_heavy():
    code = f"""\
import contextlib, io, sys
from leverplus_trl import cli
wrong = ["beams", "--config", {DEMO!r}, "--num_candidatez", "4"]
for words in (["--help"], ["sft", "--help"], ["evaluate", "--help"], ["--version"], wrong):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            cli.main(words)
        except SystemExit as ended:
            assert ended.code == (2 if len(words) > 2 else 0)
heavy = ("torch", "transformers", "datasets", "accelerate", "trl", "numpy")
print(*(name for name in heavy if name in sys.modules))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_version_and_environment(capsys):
    assert run_main("--version") == 0
    assert capsys.readouterr().out == f"leverplus_trl {__version__}\n"
    assert run_main("env") == 0
    said = capsys.readouterr().out
    assert re.search(r"^torch +\d", said, re.M) and re.search(r"^gpus ", said, re.M)


@pytest.mark.parametrize(
    "words, message",
    [
        ((), ""),
        (("bemas",), "unknown command bemas: did you mean beams?"),
        (
            ("beams", "--config", DEMO, "--num_candidatez", "4"),
            "unknown key num_candidatez: did you mean num_candidates?",
        ),
        (("beams", "--config", DEMO, "--num_shots", "0"), "num_shots is 0; expected a whole number of at least 1."),
        (("beams", "--config", "nowhere.yaml"), "There is no recipe 'nowhere.yaml'"),
        (("beams", "--config"), "--config has 0 values"),
        (("sft", "--config", DEMO), "line 1: this recipe is for the stage beams, not sft."),
        (("prepare", "--dataset", "okvqa", "--output_dir", "x"), "root is None and hub_id None: set one of them"),
        (("merge",), "output_dir is missing"),
        (("merge", "--config", "nowhere.yaml"), "There is no recipe 'nowhere.yaml'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(words, message, capsys, monkeypatch):
    monkeypatch.setattr(cli, "run_stage", lambda *_: pytest.fail("a stage was run"))
    assert run_main(*words) == 2
    said = capsys.readouterr()
    if words:
        assert said.out == "" and said.err.startswith("error: ") and message in said.err
        assert said.err.count("\n") == 1 and said.err.endswith("\n")


def test_an_accelerate_config_that_there_is_not_is_a_mistake(capsys):
    assert run_main("beams", "--config", DEMO, "--accelerate_config", "zero9") == 2
    assert capsys.readouterr().err.startswith("error: No accelerate config 'zero9': neither a file nor one of ddp")


def test_the_traceback_is_printed_on_demand(capsys):
    assert run_main("beams", "--config", DEMO, "--num_shots", "0", "--traceback") == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last)") and "\nerror: command line: num_shots is 0" in said


def test_several_recipes_are_checked_alike(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("stage: beams\nstage: sft\n")
    with pytest.raises(SystemExit) as ended:
        runner.main([DEMO, str(tmp_path / "r.yaml")])
    assert ended.value.code == 2
    assert "r.yaml, line 2: the key 'stage' was set in line 1 already" in capsys.readouterr().err


@doing("reading the weights {path!r}")
def read_weights(path):
    return pickle.loads(b"no pickle")


def test_an_error_of_another_library_is_a_sentence_with_what_was_done(tmp_path, capsys):
    log = logging.FileHandler(tmp_path / "run.log")
    logging.getLogger().addHandler(log)
    try:
        assert guarded(lambda: read_weights("w.bin")) == 1
    finally:
        logging.getLogger().removeHandler(log)
        log.close()
    said = capsys.readouterr().err
    assert said.startswith("error: UnpicklingError while reading the weights 'w.bin': ") and said.count("\n") == 1
    assert said.endswith("run.log.\n") and "Traceback (most recent call last)" in (tmp_path / "run.log").read_text()


def test_an_own_error_is_said_as_it_is():
    with pytest.raises(ValueError) as raised:
        find_accelerate_config("zero9")
    assert sentence(raised.value) == str(raised.value)
    foreign = sentence(KeyError("x" * 1000))
    assert foreign.startswith("KeyError: ") and len(foreign) < 600


def test_an_interruption_says_what_is_saved_and_how_to_go_on(tmp_path, capsys):
    def interrupt():
        raise KeyboardInterrupt

    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "units.json").write_text(json.dumps({"a": 1, "b": 1}))
    (tmp_path / "units" / "a.parquet").touch()
    (tmp_path / "checkpoint-20").mkdir()
    (tmp_path / "checkpoint-20" / "trainer_state.json").touch()
    assert guarded(interrupt, outputs=[str(tmp_path)]) == 130
    expected = (
        f"1 of 2 units and the checkpoint of step 20 are saved in {tmp_path}. Run the same command again to go on."
    )
    assert capsys.readouterr().err == f"interrupted: {expected}\n"
    assert what_is_saved([str(tmp_path / "none")]).startswith("nothing is saved")


SCRIPT = """\
import os, sys, time
if "--wait" in sys.argv:
    print("ready", flush=True)
    time.sleep(60)
raise LookupError(f"nothing here\\nat all")
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "r.yaml").write_text(f"stage: prepare\nscript: {tmp_path / 'script.py'}\n")
    return tmp_path


def test_a_script_that_fails_and_one_that_is_interrupted(script):
    command = [sys.executable, "-m", "leverplus_trl.cli", "prepare", "--config", str(script / "r.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and done.stderr.startswith("error: LookupError: nothing here at all.")
    assert done.stderr.count("\n") == 1
    process = subprocess.Popen(
        [*command, "--wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said == "interrupted: nothing was begun.\n"


def test_a_process_that_is_killed_is_told_of(script):
    (script / "script.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    command = [sys.executable, "-m", "leverplus_trl.cli", "prepare", "--config", str(script / "r.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 128 + signal.SIGKILL
    assert re.fullmatch(r"error: \S+ was ended by SIGKILL\. What was done is saved: .*\n", done.stderr)


def test_of_two_processes_one_says_the_error_and_the_launcher_nothing(script):
    code = f"""\
import sys
from leverplus_trl.launch import run_stage
sys.exit(run_stage({str(script / "script.py")!r}, [], "ddp_cpu"))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: LookupError: nothing here at all.") and done.stderr.count("\n") == 1


def test_a_successful_run_says_nothing_of_other_libraries(tmp_path):
    words = ["beams", "--config", DEMO, "--num_queries", "2", "--query_splits", "test", "--num_candidates", "4"]
    words += ["--sampler", "random", "--output_dir", str(tmp_path / "beams"), "--pool_split", "pool[:20]"]
    command = [sys.executable, "-m", "leverplus_trl.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "beams" / "run.log").read_text()
    own = {line.split(": ", 1)[-1] for line in log.splitlines() if " leverplus_trl." in line}
    first = [line for line in done.stderr.splitlines() if line]
    assert own and own & set(first)
    for word in ("gemm_4bit", "repocard", "Warning", "warn", "it/s", "%|", "TrainerCallback", "torch/"):
        assert word not in done.stderr and word not in done.stdout
    quiet = subprocess.run(
        [*command[:-4], "--output_dir", str(tmp_path / "quiet"), "--pool_split", "pool[:20]", "--quiet"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_work_that_takes_long_says_a_line_every_half_minute(monkeypatch, caplog):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    logger = logging.getLogger("leverplus_trl.test")
    with caplog.at_level(logging.INFO, "leverplus_trl"):
        bar = Progress(logger, "Searching", 100, "query", done=10)
        for done in range(11, 101):
            clock[0] += 1.0
            bar.update(done)
        bar.close()
        Progress(logger, "Hidden", 1, shown=False).update(1)
    assert caplog.messages == [
        "Searching: 40 of 100, about 60 s left.",
        "Searching: 70 of 100, about 30 s left.",
        "Searching: 100 of 100, about 0 s left.",
    ]


def test_other_libraries_speak_when_asked(capsys):
    def say():
        logging.getLogger("another").warning("theirs")
        logging.getLogger("leverplus_trl.x").info("news")
        logging.getLogger("leverplus_trl.x").warning("ours")
        return capsys.readouterr().err.splitlines()

    set_up_log(True)
    assert say() == ["news", "ours"]
    set_up_log(True, quiet=True)
    assert say() == ["ours"]
    set_up_log(True, verbose=True)
    assert say() == ["theirs", "news", "ours"]
    set_up_log(True)


def test_a_library_that_writes_to_the_terminal_itself_is_quiet_too(script):
    (script / "script.py").write_text(
        "import logging, sys, warnings\n"
        "logger = logging.getLogger('loud')\n"
        "logger.propagate = False\n"
        "logger.addHandler(logging.StreamHandler(sys.stdout))\n"
        "logger.warning('loud news')\n"
        "logging.getLogger('other').warning('other news')\n"
        "warnings.warn('old')\n"
    )
    command = [sys.executable, "-m", "leverplus_trl.cli", "prepare", "--config", str(script / "r.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_environment_variables_of_a_recipe_reach_the_stage(script):
    (script / "script.py").write_text("import os\nprint(os.environ['OF_THE_RECIPE'])\n")
    (script / "r.yaml").write_text(f"stage: prepare\nscript: {script / 'script.py'}\nenv: {{OF_THE_RECIPE: yes}}\n")
    command = [sys.executable, "-m", "leverplus_trl", str(script / "r.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ})
    assert done.returncode == 0 and "\nyes\n" in done.stdout
