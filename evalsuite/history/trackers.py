"""A result as a run of an experiment tracker, MLflow or Weights & Biases, where it is installed."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..errors import DataError, ModelError, UsageError
from ..report.render import result_id, result_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..gate.findings import GateResult


def log_to_mlflow(result: GateResult, store: str | Path, *, experiment: str = "evalsuite") -> str:
    """Log a result to MLflow: gaps and values as metrics, policy and verdict as tags and params.

    Parameters
    ----------
    result : GateResult
    store : path or str
        A folder, or another tracking URI, such as ``sqlite:///mlflow.db``.
    experiment : str

    Returns
    -------
    str
        MLflow's id of the run.

    Raises
    ------
    ModelError
        If MLflow is not installed.
    """
    if find_spec("mlflow") is None:
        raise ModelError("logging to MLflow needs the library: run `pip install evalsuite[mlflow]`")
    switches = {
        # By itself it reports its use to its makers, from the moment in which it is imported.
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # Newer versions refuse a folder unless they are told that it is meant.
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }
    with _environment(switches):
        mlflow = import_module("mlflow")
        mlflow.set_tracking_uri(str(store))
        mlflow.set_experiment(experiment)
        with mlflow.start_run(run_name=result_id(result)) as run:
            mlflow.set_tags({"verdict": result.verdict.value, "result_id": result_id(result)})
            mlflow.log_params(_facts(result))
            mlflow.log_metrics(_numbers(result))
            mlflow.log_text(result_json(result), "result.json")
            return str(run.info.run_id)


def log_to_wandb(result: GateResult, folder: str | Path, *, project: str = "evalsuite") -> Path:
    """Write a result as an offline run of Weights & Biases; nothing is sent anywhere.

    ``wandb sync FOLDER`` uploads such a run, when somebody decides to. Error reports, telemetry and
    what W&B records of the machine are switched off. Its service listens on a Unix socket of this
    machine and ends with this call.

    Parameters
    ----------
    result : GateResult
    folder : path
        Where ``wandb/offline-run-…`` is written; it is made if it is not there.
    project : str
        W&B's project.

    Returns
    -------
    Path
        The run's folder.

    Raises
    ------
    ModelError
        If wandb is not installed.
    UsageError
        If a run of W&B is active in this process: the settings would be that run's.
    DataError
        If the folder cannot be written.
    """
    if getattr(sys.modules.get("wandb"), "run", None) is not None:
        raise UsageError(
            "a run of W&B is active in this process: finish it, or use `evalsuite history wandb`"
        )
    if find_spec("wandb") is None:
        raise ModelError("logging to W&B needs the library: run `pip install evalsuite[wandb]`")
    home = Path(folder)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{home} cannot be made: {error.strerror}") from error
    with TemporaryDirectory() as scratch, _environment(_wandb_environment(scratch)):
        wandb = import_module("wandb")
        try:
            run = wandb.init(
                project=project,
                name=result_id(result),
                dir=str(home),
                mode="offline",
                config=_facts(result),
                tags=[result.verdict.value],
                settings=wandb.Settings(
                    console="off",
                    silent=True,
                    x_disable_meta=True,
                    x_disable_stats=True,
                    x_disable_machine_info=True,
                    x_disable_viewer=True,
                    x_save_requirements=False,
                    disable_code=True,
                    disable_git=True,
                    disable_job_creation=True,
                    save_code=False,
                    symlink=False,
                ),
            )
            written = Path(run.settings.sync_dir)
            run.log(_numbers(result))
            run.summary["verdict"] = result.verdict.value
            # A file of the run travels with it when the run is uploaded.
            (Path(run.dir) / "result.json").write_text(result_json(result), "utf-8")
            run.save(str(Path(run.dir) / "result.json"), base_path=run.dir, policy="end")
            run.finish()
        finally:
            wandb.teardown()
    return written


def _wandb_environment(scratch: str) -> dict[str, str]:
    """Give W&B's settings that are read before a run has any: nothing in the home folder."""
    places = ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR")
    return {
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_DISABLE_GIT": "true",
        "WANDB_SILENT": "true",
        **dict.fromkeys(places, scratch),
    }


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment for a while."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _facts(result: GateResult) -> dict[str, Any]:
    return {
        "policy_sha256": result.policy_sha256,
        "seed": result.seed,
        "real": result.real.fingerprint,
        "synthetic": result.synthetic.fingerprint,
        "evalsuite": result.evalsuite_version,
    }


def _numbers(result: GateResult) -> dict[str, float]:
    """Give each finding's value and gap under its key, in letters that both trackers take."""
    found: dict[str, float] = {}
    for finding in result.findings:
        name = "".join(c if c.isalnum() or c in "_-./ " else "_" for c in finding.key)[:200]
        for what, number in (("value", finding.value), ("gap", finding.gap)):
            if number is not None:
                found[f"{name}/{what}"] = number
    return found
