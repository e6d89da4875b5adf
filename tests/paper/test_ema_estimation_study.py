"""The experiment that holds the estimates against what then happened."""

from __future__ import annotations

import pandas as pd
import pytest

from gsim.cli.entry import main


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_feedback_follows_a_step_of_the_load_and_nominal_speeds_do_not(tmp_path):
    words = ["experiment=ema_estimation", "seeds=1", "alphas=[0.2]", "trace.requests=1200", "dynamics.at_s=10"]
    assert main([*words, "dynamics.for_s=5", "hydra.launcher.n_jobs=1", "out=found"]) == 0
    table = pd.read_csv(tmp_path / "found" / "results.csv").set_index(["estimator", "phase", "quantity"])
    assert set(table.index.levels[1]) == {"before", "step", "after", "all"}
    for phase in ("before", "step", "after"):
        learned = table.loc[("alpha 0.2", phase, "tpot_s"), "mae_over_mean"]
        assert learned < 0.15
        assert learned < 0.5 * table.loc[("nominal (control)", phase, "tpot_s"), "mae_over_mean"]
    assert (
        abs(table.loc[("alpha 0.2", "all", "ttft_s"), "bias"])
        < 0.2 * table.loc[("alpha 0.2", "all", "ttft_s"), "mean_truth"]
    )
    assert (tmp_path / "found" / "ema_estimation.png").stat().st_size > 10_000


def test_needs_a_step_and_the_ema(capsys):
    assert main(["experiment=ema_estimation", "seeds=1", "dynamics=none", "trace.requests=50", "out=found"]) != 0
    assert "dynamics" in capsys.readouterr().err
    assert main(["experiment=ema_estimation", "seeds=1", "estimator=nominal", "trace.requests=50", "out=found"]) != 0
    assert "estimator must be 'ema'" in capsys.readouterr().err
    assert main(["experiment=ema_estimation", "seeds=1", "alphas=[0]", "trace.requests=50", "out=found"]) != 0
    assert "alphas" in capsys.readouterr().err
