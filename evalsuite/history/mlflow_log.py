"""A result as a run of MLflow, where that library is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..errors import ModelError
from ..report.render import result_id, result_json

if TYPE_CHECKING:
    from pathlib import Path

    from ..gate.findings import GateResult


def log_to_mlflow(result: GateResult, store: str | Path, *, experiment: str = "evalsuite") -> str:
    """Log a result to MLflow: gaps and values as metrics, policy and verdict as tags and params.

    Parameters
    ----------
    result : GateResult
    store : path or str
        A tracking URI, such as a folder or ``sqlite:///mlflow.db``.
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
        raise ModelError("logging to MLflow needs the library: run `pip install mlflow-skinny`")
    mlflow = import_module("mlflow")
    mlflow.set_tracking_uri(str(store))
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=result_id(result)) as run:
        mlflow.set_tags({"verdict": result.verdict.value, "result_id": result_id(result)})
        mlflow.log_params(
            {
                "policy_sha256": result.policy_sha256,
                "seed": result.seed,
                "real": result.real.fingerprint,
                "synthetic": result.synthetic.fingerprint,
                "evalsuite": result.evalsuite_version,
            }
        )
        for finding in result.findings:
            # MLflow's names: letters, digits, _ - . / and blanks.
            name = "".join(c if c.isalnum() or c in "_-./ " else "_" for c in finding.key)[:200]
            for what, number in (("value", finding.value), ("gap", finding.gap)):
                if number is not None:
                    mlflow.log_metric(f"{name}/{what}", number)
        mlflow.log_text(result_json(result), "result.json")
        return str(run.info.run_id)
