import re
from collections import Counter

import pytest
import yaml

from dualpixel import DualPixelError
from dualpixel.data.registry import card_names, get_card
from dualpixel.evaluate.columns import COLUMNS
from dualpixel.evaluate.printed_tables import PAPERS
from dualpixel.evaluate.protocols import get_protocol
from dualpixel.evaluate.published import TABLES, load_published, published_rows
from dualpixel.evaluate.sanity import Printed

ROWS = {
    ("dpdnet", "1", "dpdd"): 5, ("dpdnet", "2", "dpdd"): 4,
    ("dddnet", "1", "dpdd"): 5, ("dddnet", "1", "ddd_syn"): 5, ("dddnet", "1", "ddd_real"): 5, ("dddnet", "2", "dpd_disp"): 6,
    ("dddnet", "3", "ddd_syn"): 6, ("dddnet", "section 5.2, text", "dpdd"): 4,
    ("mdp", "1", "dpdd"): 5, ("mdp", "2", "dpdd"): 3, ("mdp", "3", "dpdd"): 4, ("mdp", "4", None): 6,
    ("mdp", "section 4.2, text", "dpdd"): 1, ("mdp", "S1", "dpdd"): 3,
    ("dpanet", "I", "dpdd"): 10, ("dpanet", "II", "dpdd"): 4, ("dpanet", "III", "dpdd"): 5, ("dpanet", "IV", "dpdd"): 6,
    ("k3dn", "1", "dpdd"): 15, ("k3dn", "2", "ddd_syn"): 13, ("k3dn", "3", "rdpd"): 13, ("k3dn", "4", "dpdd"): 5,
    ("k3dn", "5", "dpdd"): 5,
}  # fmt: skip
CANNOT_BE = {
    ("dddnet", "1", "ddd_syn", "DDDNet"), ("dddnet", "1", "ddd_real", "DMENet"), ("dddnet", "1", "ddd_real", "DPDNet"),
    ("dddnet", "1", "ddd_real", "DDDNet without reblur loss"), ("dddnet", "1", "ddd_real", "DDDNet"),
    ("dddnet", "2", "dpd_disp", "BTS"),
    ("dddnet", "2", "dpd_disp", "DDDNet of DDD-syn, tuned on these scenes by the reblur loss"),
    ("k3dn", "2", "ddd_syn", "DDDNet"), ("k3dn", "2", "ddd_syn", "Restormer"),
}  # fmt: skip
"""Rows that contradict themselves as the papers print them. Any other is a slip of ours."""
TRANSPOSED = {
    ("dddnet", "1"): ["EBDB", "DMENet", "DPDNet", "DDDNet without reblur loss", "DDDNet"],
    ("dpanet", "I"): ["JNB", "EBDB", "DMENet", "DMPHN", "MPRNet", "DPDNet", "RDPD+", "BaMBNet", "Restormer", "DPANet"],
    ("k3dn", "5"): ["N = 64", "N = 96", "N = 128 (K3DN Lightweight)", "N = 160", "N = 192"],
}
"""Tables that have a method in each column, from left to right."""


def place(row):
    return row.paper, row.table.table, row.dataset


def one(paper, table, dataset, method, **about):
    (row,) = [
        row
        for row in published_rows(dataset, paper)
        if (row.table.table, row.method) == (table, method)
        and all(getattr(row.table, name) == value for name, value in about.items())
    ]
    return row


def digits(row, group="overall"):
    return {name: score.text for name, score in row.scores[group].items()}


def test_every_paper_has_its_file_and_every_file_its_paper():
    assert {path.stem for path in TABLES.iterdir()} == set(PAPERS)
    for name in PAPERS:
        rows = load_published(TABLES / f"{name}.yaml")
        assert {row.paper for row in rows} == {name} and rows == published_rows(paper=name)


def test_tables_are_no_cards_of_data_sets():
    assert not set(card_names()) & set(PAPERS) and not any("published" in name for name in card_names())


def test_every_table_has_all_its_rows():
    assert Counter(map(place, published_rows())) == ROWS
    assert all(row.published is True for row in published_rows())


def test_no_row_stands_twice():
    assert max(Counter((*place(row), row.table.size, row.method) for row in published_rows()).values()) == 1


def test_rows_are_found_by_data_set_and_paper():
    assert {row.paper for row in published_rows("ddd_syn")} == {"dddnet", "k3dn"}
    assert len(published_rows("ddd_syn", "k3dn")) == 13 and not published_rows("quickstart")
    with pytest.raises(DualPixelError, match="no tables of a paper 'k3d'; did you mean 'k3dn'"):
        published_rows(paper="k3d")


@pytest.mark.parametrize("row", published_rows(), ids=lambda row: f"{row.paper}-{row.table.table}-{row.method}")
def test_a_row_contradicts_itself_only_where_a_doubt_is_stated(row):
    assert bool(row.faults) == ((*place(row), row.method) in CANNOT_BE), row.faults
    assert row.doubt or not row.faults


def test_data_sets_sizes_and_groups_are_those_of_the_cards():
    for table in {id(row.table): row.table for row in published_rows()}.values():
        if table.dataset is None:
            continue
        card = get_card(table.dataset)
        labelled = card.split("test").groups
        assert {group: len(labelled[group]) for group in table.groups} == table.groups
        stored = tuple(card.size) if card.size else None
        assert table.size in (None, stored, stored and (stored[0] // 2, stored[1] // 2))
        assert table.bit_depth is None or table.bit_depth <= card.bit_depth


def test_protocols_fit_the_size_the_bits_and_the_columns_that_the_row_has():
    named = [row for row in published_rows() if row.protocol]
    assert len(named) == 64
    for row in named:
        protocol, card = get_protocol(row.protocol), get_card(row.dataset)
        assert row.protocol in card.protocols
        if card.size and row.table.size:
            assert protocol.halved == (list(row.table.size) != list(card.size))
            assert row.table.bit_depth == (protocol.quantisation.input or card.bit_depth)
        assert bool(protocol.truth) == bool(row.dataset in ("ddd_syn", "dpd_disp"))


def test_digits_stay_as_printed():
    row = one("mdp", "S1", "dpdd", "middle stitching (MDP)")
    assert digits(row) == {"psnr": "25.35", "ssim": "0.763", "mae": "0.040"} and row.means["overall"]["mae"] == 0.04
    assert digits(one("dddnet", "3", "ddd_syn", "DDDNet"))["delta3"] == "1.000"
    assert digits(one("dddnet", "2", "dpd_disp", "BTS"))["ai1"] == "0.1070"
    assert one("k3dn", "1", "dpdd", "DeepRFT").printed.parameters_millions == "9.60"


def test_what_a_paper_leaves_out_is_not_there():
    assert digits(one("mdp", "3", "dpdd", "single tasks with L_C and L_D")) == {"views_psnr": "38.23", "views_ssim": "0.962"}  # fmt: skip
    assert "psnr" not in one("dddnet", "3", "ddd_syn", "BTS").scores["overall"]


def test_dpdnet_table_1():
    row = one("dpdnet", "1", "dpdd", "DPDNet")
    assert list(row.scores) == ["indoor", "outdoor", "overall"] and row.table.groups == {"indoor": 37, "outdoor": 39}
    assert digits(row, "indoor") == {"psnr": "27.48", "ssim": "0.849", "mae": "0.029", "lpips": "0.189"}
    assert digits(row, "outdoor") == {"psnr": "22.90", "ssim": "0.726", "mae": "0.052", "lpips": "0.255"}
    assert digits(row) == {"psnr": "25.13", "ssim": "0.786", "mae": "0.041", "lpips": "0.223"}
    assert (row.protocol, row.measured_by, row.doubt) == ("dpdnet-16bit", "dpdnet", None)
    assert row.citation == "Abuolaim and Brown, ECCV 2020, table 1"


def test_times_are_the_sum_of_their_parts():
    rows = [row.printed.seconds for row in published_rows(paper="dpdnet") if row.printed.seconds]
    assert len(rows) == 4
    for seconds in rows:
        parts = float(seconds["defocus map"]) + float(seconds["deblurring"])
        assert parts == pytest.approx(float(seconds["total"]), abs=1e-9)


def test_mdp_tables_1_and_2():
    assert digits(one("mdp", "1", "dpdd", "MDP"), "outdoor") == {"psnr": "22.82", "ssim": "0.690", "mae": "0.052"}
    synthesised = one("mdp", "2", "dpdd", "DPDNet on views of MDP")
    assert digits(synthesised) == {"psnr": "24.91", "ssim": "0.758", "mae": "0.043"}
    assert synthesised.protocol == "mdp-views-16bit"
    for method in ("JNB", "EBDB", "DPDNet-Single"):  # copied there: every digit, in every group
        mine, theirs = one("mdp", "1", "dpdd", method), one("dpdnet", "1", "dpdd", method)
        assert all(digits(theirs, group).items() >= digits(mine, group).items() for group in theirs.scores)
        assert mine.measured_by == "dpdnet"
    other = one("mdp", "1", "dpdd", "DMENet")
    assert digits(other)["psnr"] == "23.55" and other.measured_by is None and "23.41" in other.doubt


def test_dpanet_tables():
    row = one("dpanet", "I", "dpdd", "DPANet")
    assert digits(row) == {"psnr": "26.80", "ssim": "0.835", "mae": "0.035", "lpips": "0.159"}
    assert row.protocol == "dpanet-8bit" and one("dpanet", "III", "dpdd", "DPANet").doubt
    full, half = (one("dpanet", "II", "dpdd", "DDDNet", size=size) for size in ((1120, 1680), (560, 840)))
    assert (digits(full), full.protocol, full.measured_by) == ({"psnr": "25.41", "ssim": "0.839"}, None, "dddnet")
    assert (digits(half), half.protocol) == ({"psnr": "26.76", "ssim": "0.842"}, "dddnet-half")
    assert one("dpanet", "II", "dpdd", "DPANet", size=(560, 840)).protocol == "dpanet-half"
    costs = [one("dpanet", "IV", "dpdd", name).printed for name in ("DPANet", "Baseline without EAM and DAM")]
    assert [cost.parameters_millions for cost in costs] == ["63.98", "60.76"]
    assert [cost.operations_giga for cost in costs] == ["213.77", "190.82"]


def test_k3dn_tables():
    row = one("k3dn", "1", "dpdd", "K3DN Large")
    assert digits(row) == {"psnr": "27.06", "ssim": "0.835", "rmse_relative": "4.44", "mae": "0.341"}
    assert row.scores["overall"]["mae"] == Printed("0.341", "0.1") and row.means["overall"]["mae"] == 0.0341
    assert (row.printed.parameters_millions, row.printed.operations_giga) == ("15.90", "3352")
    assert row.protocol == "k3dn-1152x1792" and "1152x1792" in row.printed.operations_counted
    again = one("k3dn", "1", "dpdd", "DDDNet")
    assert (again.measured_by, again.protocol, digits(again)["ssim"]) == ("k3dn", None, "0.786")
    assert digits(one("k3dn", "3", "rdpd", "Restormer"))["psnr"] == "32.27"
    assert digits(one("k3dn", "2", "ddd_syn", "K3DN Tiny"))["mae"] == "0.113"
    assert {row.method for row in published_rows(paper="k3dn") if row.printed.extra_data} == {"RDPD", "DRBNet"}


def test_rmse_of_k3dn_is_that_of_the_mean_psnr_but_once():
    apart = []
    for row in published_rows(paper="k3dn"):
        means = row.means["overall"]
        if "rmse_relative" in means and abs(100 * 10 ** (-means["psnr"] / 20) - means["rmse_relative"]) > 0.0101:
            apart.append((row.table.table, row.method))
    assert apart == [("2", "DDDNet")]


def test_dddnet_tables():
    row = one("dddnet", "1", "dpdd", "DDDNet")
    assert digits(row) == {"psnr": "26.76", "ssim": "0.842", "rmse_relative": "4.59"}
    assert row.protocol == "dddnet-half" and row.table.size == (560, 840) and "0.891" in row.doubt
    coarse = one("dddnet", "3", "ddd_syn", "DDDNet's DepthNet")
    assert digits(coarse)["coarse_abs_rel"] == "0.149" and coarse.protocol == "ddd-syn"
    assert digits(one("dddnet", "1", "ddd_real", "EBDB")) == {"psnr": "21.67", "ssim": "0.763", "rmse_relative": "8.25"}
    assert digits(one("dddnet", "section 5.2, text", "dpdd", "DDDNet of DDD-syn"))["rmse_relative"] == "9.68"


@pytest.mark.parametrize("paper", PAPERS)
def test_all_digits_stand_in_the_papers_in_this_order(shared, paper):
    text = shared / "papers" / f"{paper}.txt"
    if not text.is_file():
        pytest.skip(f"no {text}")
    lines = [re.findall(r"\d+(?:\.\d+)?", line) for line in text.read_text().splitlines()]
    wanted, transposed = [], {}
    for row in published_rows(paper=paper):
        wanted += [list(row.printed.seconds.values())]
        wanted += [[cost for cost in (row.printed.parameters_millions, row.printed.operations_giga) if cost]]
        if place(row)[:2] in TRANSPOSED:
            transposed.setdefault(place(row), {})[row.method] = list(digits(row).values())
        else:
            wanted += [[score.text for columns in row.scores.values() for score in columns.values()]]
    for where, rows in transposed.items():
        wanted += zip(*(rows[method] for method in TRANSPOSED[where[:2]]), strict=True)
    assert len(wanted) >= 18
    assert [numbers for numbers in wanted if not any(in_order(numbers, line) for line in lines)] == []


def in_order(wanted, line):
    rest = iter(line)
    return all(number in rest for number in wanted)


@pytest.fixture
def altered(tmp_path):
    """Writes DPDNet's tables with a change to their first row, and loads them."""

    def alter(change):
        content = yaml.safe_load((TABLES / "dpdnet.yaml").read_text())
        change(content["tables"][0])
        path = tmp_path / "dpdnet.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_published(path)

    return alter


def first_row(table):
    return table["parts"][0]["rows"][0]


def test_a_slip_in_a_digit_is_found(altered):
    def slip(table):
        first_row(table)["scores"]["indoor"] = "25.64 0.816 0.031 0.239"  # 26.54

    assert "overall psnr is 24.34 and not the mean of the groups'" in altered(slip)[0].faults[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: first_row(table)["scores"].update(overall="24.34 0.747 0.044"), "DPDNet-Single, overall: 3 scores for 4 columns"),
        (lambda table: first_row(table)["scores"].update(overall="24.34 0.747 0.044 0,277"), "'0,277' is not a number"),
        (lambda table: first_row(table)["scores"].update(overall=24.34), r"scores.overall: found 24.34 \(float\), expected str"),
        (lambda table: first_row(table).update(doubts="x"), "unknown key 'doubts'; did you mean 'doubt'"),
        (lambda table: table.update(columns=["psnr", "ssim", "mae", "lpip"]), "no column 'lpip'; did you mean 'lpips'"),
        (lambda table: table["parts"][0].update(protocol="dpdnet-16"), "no protocol 'dpdnet-16'; did you mean 'dpdnet-16bit'"),
        (lambda table: table["parts"][0].update(measured_by="dpnet"), "no tables of a paper 'dpnet'"),
    ],
)  # fmt: skip
def test_files_with_mistakes_are_refused(altered, change, said):
    with pytest.raises(DualPixelError, match=said):
        altered(change)


def test_columns_are_those_that_results_have():
    assert {"psnr", "views_ssim", "coarse_abs_rel", "delta3", "ai2", "geometric_mean", "input_lpips"} <= set(COLUMNS)
    assert len(COLUMNS) == len(set(COLUMNS))
