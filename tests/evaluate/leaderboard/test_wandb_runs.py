import json
import time

import pytest
from wandb_server import KEY, RESPONSES, WandbServer

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.leaderboard import wandb_runs
from dualpixel.evaluate.leaderboard.tables import leaderboards
from dualpixel.evaluate.leaderboard.wandb_runs import runs_from_wandb
from dualpixel.running import wandb_access

RESULT = "results/dpdd-test/dpdnet-16bit/result.json"


@pytest.fixture(autouse=True)
def no_key_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("WANDB_API_KEY", "NETRC", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(monkeypatch):
    with WandbServer() as one:
        monkeypatch.setattr(wandb_access, "base_url", lambda: one.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield one


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """Everything of the stored project, fetched once."""
    folder = tmp_path_factory.mktemp("fetched")
    with WandbServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(wandb_access, "base_url", lambda: server.url)
        patch.setenv("WANDB_API_KEY", KEY)
        patch.setenv("WANDB_DIR", str(folder / "of the client"))
        entries, left_out = runs_from_wandb("team/blur", folder / "results")
        yield server, folder, entries, left_out


def test_results_of_all_pages_become_entries(fetched):
    server, folder, entries, _ = fetched
    pages = [variables["cursor"] for operation, variables in server.asked if operation == "Runs"]
    assert pages == [None, "cursor2"]
    assert [(one.result.recipe, one.result.protocol, one.scores("psnr")) for one in entries] == [
        ("net_a1b2c3d4", "dpdnet-16bit", 25.5),
        ("net_a1b2c3d4", "k3dn-1152x1792", 24.5),
        ("net_e5f6a7b8", "dpdnet-16bit", 26.5),
    ]
    first = entries[0]
    assert first.file == folder / "results" / "team" / "blur" / "a1b2c3d4" / RESULT
    assert first.folder == (folder / "results" / "team" / "blur" / "a1b2c3d4").resolve()
    assert first.file.read_bytes() == (RESPONSES / "a1b2c3d4-dpdnet-16bit.json").read_bytes()
    assert first.result.seconds == 0.5
    board = leaderboards(entries)[0]
    assert [(row.rank, row.entry.result.recipe) for row in board.rows] == [(1, "net_e5f6a7b8"), (2, "net_a1b2c3d4")]


def test_entries_have_the_names_and_the_pages_of_their_runs(fetched):
    server, _, entries, _ = fetched
    # two runs have one name, of which one has two results
    assert [one.run for one in entries] == ["dpdnet-dpdd-1 (a1b2c3d4)"] * 2 + ["dpdnet-dpdd-1 (e5f6a7b8)"]
    assert [one.link for one in entries] == [
        f"{server.url}/team/blur/runs/{i}" for i in ("a1b2c3d4", "a1b2c3d4", "e5f6a7b8")
    ]


def test_what_cannot_be_had_is_left_out_in_a_line_each(fetched):
    _, folder, _, left_out = fetched
    assert len(left_out) == 8
    said = "\n".join(left_out)
    assert (
        f"team/blur run missing0, {RESULT}: the finished run has no such file; `wandb sync` or `test` brings it"
        in left_out
    )
    assert (
        f"team/blur run deleted0, {RESULT}: the killed run has no such file; `wandb sync` or `test` brings it"
        in left_out
    )
    assert any(line.startswith("team/blur run changed0") and "and not 'abababababab'..." in line for line in left_out)
    for name in ("../../evil/result.json", "/etc/passwd", "{'_type': 'numpy.ndarray'}", "results/../../result.json"):
        assert f"team/blur run hostile0, {name}: not the name of a result file" in left_out
    assert "results/i/j/result.json: the finished run has no such file" in said
    assert "\x1b" not in said


def test_nothing_is_left_beside_the_results(fetched):
    server, folder, entries, _ = fetched
    assert sorted(path for path in (folder / "results").rglob("*") if path.is_file()) == sorted(
        one.file for one in entries
    )
    assert not (folder / "evil").exists()
    assert not any(path.name.startswith(".") for path in (folder / "results").rglob("*"))
    assert {path for path, _ in server.downloads} == {
        f"/files/team/blur/{run}/results/dpdd-test/{protocol}/result.json"
        for run, protocol in [
            ("a1b2c3d4", "dpdnet-16bit"), ("a1b2c3d4", "k3dn-1152x1792"), ("e5f6a7b8", "dpdnet-16bit"), ("changed0", "dpdnet-16bit"),
        ]
    }  # fmt: skip


def test_what_is_there_with_the_right_hash_is_not_fetched_again(server, tmp_path):
    for run in ("a1b2c3d4", "e5f6a7b8"):
        for protocol in ("dpdnet-16bit", "k3dn-1152x1792"):
            stored = RESPONSES / f"{run}-{protocol}.json"
            if stored.is_file():
                path = tmp_path / "team" / "blur" / run / "results" / "dpdd-test" / protocol / "result.json"
                path.parent.mkdir(parents=True)
                path.write_bytes(stored.read_bytes())
    path.write_text("altered")
    entries, _ = runs_from_wandb("team/blur", tmp_path)
    assert [one.scores("psnr") for one in entries] == [25.5, 24.5, 26.5]
    assert [asked.split("/")[4] for asked, _ in server.downloads] == ["e5f6a7b8", "changed0"]


def test_a_result_with_the_right_hash_is_still_checked(server, tmp_path, monkeypatch):
    content = json.loads((RESPONSES / "e5f6a7b8-dpdnet-16bit.json").read_text())
    content["means"]["overall"]["psnr"] = 40.0
    path = tmp_path / "team" / "blur" / "e5f6a7b8" / RESULT
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    wrong = wandb_runs.sha256(path)

    def change(answer):
        for edge in answer["data"]["project"]["runs"]["edges"]:
            right = wandb_runs.sha256(RESPONSES / "e5f6a7b8-dpdnet-16bit.json")
            edge["node"]["summaryMetrics"] = (edge["node"]["summaryMetrics"] or "null").replace(right, wrong)

    server.changes["Runs"] = change
    entries, left_out = runs_from_wandb("team/blur", tmp_path)
    assert [one.scores("psnr") for one in entries] == [25.5, 24.5]
    assert any("overall psnr is 40 and not the mean of the groups'" in line for line in left_out)


def test_the_key_goes_to_the_server_and_to_no_other(server, tmp_path):
    with WandbServer() as other:

        def change(answer):
            for edge in answer["data"]["project"]["run"]["files"]["edges"] if answer["data"]["project"]["run"] else ():
                edge["node"]["url"] = edge["node"]["url"].replace(
                    server.url, other.url.replace("127.0.0.1", "localhost")
                )

        server.changes["RunFiles"] = change
        entries, _ = runs_from_wandb("team/blur", tmp_path)
    assert len(entries) == 3 and not server.downloads
    assert len(other.downloads) == 4 and not any(with_key for _, with_key in other.downloads)


def test_a_file_that_is_said_to_be_huge_is_not_fetched(server, tmp_path, monkeypatch):
    def change(answer):
        for edge in answer["data"]["project"]["run"]["files"]["edges"] if answer["data"]["project"]["run"] else ():
            edge["node"]["sizeBytes"] = str(10**12)

    server.changes["RunFiles"] = change
    entries, left_out = runs_from_wandb("team/blur", tmp_path)
    assert not entries and not server.downloads
    assert f"team/blur run e5f6a7b8, {RESULT}: 1000000000000 bytes are too many for a result" in left_out


@pytest.mark.parametrize("fault", [("status", 404, "gone"), ("status", 403, "expired")])
def test_a_file_that_the_storage_does_not_give_is_left_out(server, tmp_path, fault):
    server.faults["GET"] = fault
    entries, left_out = runs_from_wandb("team/blur", tmp_path)
    assert not entries and sum("could not be downloaded" in line and str(fault[1]) in line for line in left_out) == 4


@pytest.mark.parametrize("fault", [("stall", 30.0), ("endless",)])
def test_a_download_without_an_end_is_an_error(server, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(wandb_runs, "MOST_SECONDS", 1.0 if fault[0] == "stall" else 30.0)
    monkeypatch.setattr(wandb_runs, "MOST_BYTES", 1 << 20)
    server.faults["GET"] = fault
    started = time.monotonic()
    with pytest.raises(DualPixelError, match=r"was to have 1121 bytes and has no end, or did not come within"):
        runs_from_wandb("team/blur", tmp_path)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("operation", "fault", "said"),
    [
        ("Viewer", ("status", 401, '{"errors": [{"message": "unknown key"}]}'), "sign in, the key is refused (unknown key)"),
        ("Viewer", ("status", 200, "<html>"), "sign in: no answer that can be read within 1 s (invalid character"),
        ("Viewer", ("stall", 20.0), "sign in: no answer that can be read within 1 s (Failed"),
        ("Runs", ("stall", 20.0), "read team/blur: no answer that can be read within 1 s"),
        ("Runs", ("status", 403, '{"errors": [{"message": "\\u001b[31mno"}]}'), "read team/blur, the key is refused (?[31mno)"),
        ("Runs", ("status", 200, '{"data": [1]}'), "read team/blur: no answer that can be read"),
        ("Runs", ("status", 200, '{"data": {"project": {"runCount": "x", "runs": 5}}}'), "read team/blur: no answer that can"),
        ("Runs", ("status", 200, '{"errors": [{"message": "{1"}]}'), "read team/blur: no answer that can be read"),
        ("RunFiles", ("status", 200, '{"data": {"project": {"run": {"files": {"edges": [7]}}}}}'), "read team/blur: no answer"),
    ],
)  # fmt: skip
def test_wrong_answers_are_errors_of_one_line(server, tmp_path, monkeypatch, operation, fault, said):
    monkeypatch.setattr(wandb_access, "TIMEOUT", 1)
    server.faults[operation] = fault
    with pytest.raises(DualPixelError) as error:
        runs_from_wandb("team/blur", tmp_path)
    assert f"W&B at {server.url}: could not {said}" in str(error.value)
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value)


@pytest.mark.parametrize("summary", ["[1, 2]", "{", 7])
def test_a_summary_that_is_none_is_a_wrong_answer(server, tmp_path, summary):
    def change(answer):
        answer["data"]["project"]["runs"]["edges"][0]["node"]["summaryMetrics"] = summary

    server.changes["Runs"] = change
    with pytest.raises(DualPixelError, match=r"could not read team/blur: no answer that can be read within 30 s \("):
        runs_from_wandb("team/blur", tmp_path)


def test_pages_without_an_end_are_read_to_the_limit(server, tmp_path, monkeypatch):
    def change(answer):
        runs = answer["data"]["project"]["runs"]
        runs["edges"] = [{"node": runs["edges"][2]["node"] | {"summaryMetrics": "{}"}, "cursor": "cursor2"}]
        runs["pageInfo"]["hasNextPage"] = True
        answer["data"]["project"]["runCount"] = 10**9

    server.changes["Runs"] = change
    monkeypatch.setattr(wandb_runs, "MOST_RUNS", 20)
    assert runs_from_wandb("team/blur", tmp_path) == (
        [],
        ["team/blur: 1000000000 runs, of which the first 20 were read"],
    )


def test_a_project_that_is_not_there_is_named(server, tmp_path):
    with pytest.raises(DualPixelError, match="could not read team/other: no such project"):
        runs_from_wandb("team/other", tmp_path)


@pytest.mark.parametrize(
    "project",
    ["blur", "a/b/c", "/blur", "team/", "../blur", "team/..", "te\x1bam/blur", "team/bl?ur", "team/" + "b" * 200],
)
def test_a_project_is_an_entity_and_a_name(project, tmp_path):
    with pytest.raises(DualPixelError, match="name it as ENTITY/PROJECT") as error:
        runs_from_wandb(project, tmp_path)
    assert "\x1b" not in str(error.value)


def test_without_a_key_nothing_is_asked(server, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(
        DualPixelError, match=r"no key for W&B at http://127.0.0.1:\d+: set WANDB_API_KEY, or run `wandb login`"
    ):
        runs_from_wandb("team/blur", tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(
        DualPixelError, match="the key for W&B cannot be used: WANDB_API_KEY invalid: API key must have 40"
    ):
        runs_from_wandb("team/blur", tmp_path)
    assert not server.asked


def test_a_key_of_netrc_is_found_by_the_servers_name(server, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text(f"machine other.example login user password {KEY}\n")
    assert not wandb_access.has_key()
    (tmp_path / "netrc").write_text(f"machine {server.url.removeprefix('http://')} login user password {KEY}\n")
    assert wandb_access.has_key()
