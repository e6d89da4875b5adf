"""Is the skew rule one of both published cards? Their own skew.csv, predicted from rows that the rule did not see."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gsim.latency import OperatorModel, load_profile
from gsim.latency.operators.tables import SKEW_BORDERS, read_alphas

CARDS = ("rtx4090-llama-3.1-8b-tp1", "rtxpro6000-llama-3.1-8b-tp1")


def pure_decodes(folder: Path) -> pd.DataFrame:
    rows = pd.read_csv(folder / "skew.csv")
    return rows[rows.pc == 0]


def errors(seen: pd.DataFrame, judged: pd.DataFrame, model: OperatorModel, tmp_path: Path) -> np.ndarray:
    """Relative error of the time of each judged row, with alphas from the seen ones."""
    seen.to_csv(tmp_path / "skew.csv", index=False)
    decodes, chunks, alpha = read_alphas(tmp_path / "skew.csv")
    tables = dataclasses.replace(model.tables, skew_decodes=decodes, skew_chunks=chunks, alpha=alpha)
    model = dataclasses.replace(model, tables=tables)
    bands = np.searchsorted(SKEW_BORDERS, 1.0 - judged.kv_mean / judged.kv_big)
    alphas = np.array([model._alphas(0, int(n))[band] for n, band in zip(judged.n, bands, strict=True)])
    predicted = judged.t_mean_us + alphas * (judged.t_max_us - judged.t_mean_us)
    relative: np.ndarray = (predicted / judged.t_skew_us - 1.0).to_numpy()
    return relative


@pytest.mark.parametrize("card", CARDS)
def test_every_second_row_is_known_from_the_others(shared: Path, tmp_path: Path, card: str) -> None:
    folder = shared / "data" / "profiles" / "operator" / card
    model = load_profile(folder).latency
    assert isinstance(model, OperatorModel)
    rows = pure_decodes(folder)
    chosen = np.random.default_rng(0).random(len(rows)) < 0.5
    error = errors(rows[chosen], rows[~chosen], model, tmp_path)
    without = (rows.t_mean_us / rows.t_skew_us - 1.0)[~chosen]
    assert abs(error.mean()) < 0.01
    assert np.median(np.abs(error)) < 0.015
    assert without.mean() < -0.03


@pytest.mark.parametrize(("card", "size"), [(CARDS[0], 32), (CARDS[1], 64)])
def test_the_first_unsplit_size_is_known_from_larger_ones_only(
    shared: Path, tmp_path: Path, card: str, size: int
) -> None:
    """The first measured size beyond the end of splitting: 26 sequences on one card, 38 on the other."""
    folder = shared / "data" / "profiles" / "operator" / card
    model = load_profile(folder).latency
    assert isinstance(model, OperatorModel)
    rows = pure_decodes(folder)
    seen, judged = rows[rows.n != size], rows[rows.n == size]
    apart = errors(seen, judged, model, tmp_path)
    across = errors(seen, judged, dataclasses.replace(model, unsplit_from=0), tmp_path)
    assert abs(apart.mean()) < 0.015
    assert across.mean() < -0.05
