"""The Japanese of the pages: one word for each term of the field, in one way of writing."""

from __future__ import annotations

import re

import pytest

from evalsuite.report.i18n import catalogue

TERMS = {
    # English: the Japanese for it
    r"\bgaps?\b": "ギャップ",
    r"\bencoders?\b": "エンコーダー",
    r"\bcoverage\b": "被覆率",
    r"\bprecision\b": "適合率",
    r"\btolerances?\b": "許容値",
    r"\bhops?\b": "段",
    r"\bwaive": "免除",
    r"\bverdict\b": "判定",
    r"\bprovenance\b": "来歴",
    r"\bintegrity\b": "健全性",
    r"\bnear duplicates?\b": "近似重複",
    r"\bnear cop(y|ies)\b": "酷似",
    r"\badj(\.|usted) p\b": "調整済み p",
    r"(?<!noise )\bfloor\b": "基準",
}
"""Wherever the English text has the term, the Japanese one must have its word."""

REJECTED = {
    # the term: what it was also called, or might be
    "評価項目 (finding)": "所見|判定項目|検出事項",
    "ギャップ (gap)": "乖離|懸隔",
    "エンコーダー (encoder)": "エンコーダ(?!ー)|符号化器",
    "サンプル (sample)": "(?<!再)標本",
    "再標本化 (resampling)": "再抽出|リサンプリング",
    "被覆率 (coverage)": "網羅率|カバー率|カバレッジ",
    "コピー (copy)": "複製|ほぼコピー",
    "近似重複 (near duplicate)": "ほぼ重複|ほぼ同じテキスト",
    "来歴 (provenance)": "(?<!データ)由来",
    "健全性 (integrity)": "完全性",
    "調整済み p (adjusted p)": "補正 ?p|補正済み|補正した p|調整 p",
    "ホールドアウト (holdout)": "ホールド・アウト|取り置き",
    "ポリシー (policy)": "方針",
    "指標 (metric)": "メトリク",
    "属性 (attribute)": "アトリビュート",
    "校正 (calibration)": "較正|キャリブレーション",
    "パレート最適 (on the front)": "最前線|パレートフロント",
    "検証用 (second look)": "第二の視点|セカンドルック",
    "half-width brackets and colons": "[（）：]",
    "~ between numbers": "〜",
    "95%": r"\d %",
}  # fmt: skip


@pytest.mark.parametrize("english", TERMS)
def test_a_term_has_its_word(english: str) -> None:
    table, japanese = catalogue("en"), catalogue("ja")
    plain = {key: re.sub(r"\{[^}]*\}", "", text) for key, text in table.items()}
    asked = [key for key, text in plain.items() if re.search(english, text, re.IGNORECASE)]
    assert asked
    assert {key: japanese[key] for key in asked if TERMS[english] not in japanese[key]} == {}


@pytest.mark.parametrize("term", REJECTED)
def test_no_term_goes_by_another_word(term: str) -> None:
    found = {k: v for k, v in catalogue("ja").items() if re.search(REJECTED[term], v)}
    assert found == {}


def test_findings_are_named_alike_where_the_page_lists_them() -> None:
    japanese = catalogue("ja")
    for key in ("findings", "nav.findings", "skip", "table.empty", "note.findings",
                "history.col.finding", "history.waivers.lead", "nulls.none"):  # fmt: skip
        assert "評価項目" in japanese[key], key
