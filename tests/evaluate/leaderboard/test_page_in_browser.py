from dataclasses import replace

import pytest
from browser import browser, errors, show
from made_pages import HOSTILE, NETWORKS, boards_of, save_hostile, save_networks, write_page
from made_results import photographs, save

from dualpixel.evaluate.leaderboard.tables import leaderboards

TEXTS = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
COLUMN = """
    const heads = [...document.querySelectorAll(`${arguments[0]} thead th`)];
    const place = heads.findIndex((head) => head.textContent === arguments[1]) + 1;
    return [...document.querySelectorAll(`${arguments[0]} tbody tr > :nth-child(${place})`)].map((cell) => cell.textContent);
"""
PRESS = """
    const heads = [...document.querySelectorAll(`${arguments[0]} thead th`)];
    const head = heads.find((one) => one.textContent === arguments[1]);
    head.firstElementChild.click();
    return heads.map((one) => [one.textContent, one.getAttribute("aria-sort")]).filter(([, said]) => said);
"""
FILTER = """
    const field = document.getElementById(`filter-${arguments[0]}`);
    field.value = arguments[1];
    field.dispatchEvent(new Event("input", { bubbles: true }));
"""
CONTRASTS = """
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (color) => rgb(color).slice(0, 3).map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
      .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
    const ground = (one) => {
      const color = getComputedStyle(one).backgroundColor;
      return rgb(color)[3] !== 0 || !one.parentElement ? color : ground(one.parentElement);
    };
    const found = {};
    for (const one of document.querySelectorAll("body *")) {
      if (one.closest("option, script, style, noscript, svg g") || !one.checkVisibility()) continue;
      if (![...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
      const style = getComputedStyle(one);
      const [a, b] = [light(one.closest("svg") ? style.fill : style.color), light(ground(one))].sort((x, y) => y - x);
      const place = one.closest("tr, p, nav, form, dialog, header, svg")?.className;
      found[`${one.tagName}.${one.className.baseVal ?? one.className} in ${place}`] = (a + 0.05) / (b + 0.05);
    }
    return found;
"""
PLACES = """
    return [...document.querySelectorAll(arguments[0])]
      .map((one) => [one.textContent.split(",")[0], Number(one.lastChild.getAttribute("cx"))]);
"""
CHOOSE = """
    const choice = document.querySelector(`${arguments[0]} select`);
    choice.selectedIndex = arguments[1];
    choice.dispatchEvent(new Event("change"));
"""
SIZES = """
    const one = arguments[0] ? document.querySelector(arguments[0]) : document.documentElement;
    return [one.scrollWidth, one.clientWidth];
"""
PINNED = """
    const box = document.querySelector(`${arguments[0]} .box`);
    box.scrollLeft = 300;
    const [rank, name] = [...box.querySelector("tbody tr").children].map((cell) => cell.getBoundingClientRect());
    return [box.scrollLeft, rank.left - box.getBoundingClientRect().left, name.left - rank.right];
"""
BOARD = "#board-1"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of four networks, a run of a server, and a hostile one."""
    folder = tmp_path_factory.mktemp("leaderboard")
    runs = folder / "runs"
    save_networks(runs)
    boards = boards_of(runs, "dpdnet-dpdd-1")
    save(folder / "server", "k3dn-quickstart-1", photographs(30.0, dataset="quickstart"))
    (of_server,) = boards_of(folder / "server")
    linked = replace(of_server.entries[0], link="https://example.org/runs/1")
    save_hostile(folder / "bad")
    (bad,) = boards_of(folder / "bad")
    hostile = replace(bad.entries[0], run=HOSTILE, link=f"javascript:document.title='{HOSTILE}'")
    return write_page(folder, [*boards, *leaderboards([linked]), *leaderboards([hostile])], left_out=[HOSTILE])


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def opened(driver, page):
    """The page, just opened; what the console says is an error of the test."""
    show(driver, page)
    yield driver
    assert not errors(driver)


def column(driver, heading, table=BOARD):
    return [text.strip() for text in driver.execute_script(COLUMN, table, heading)]


def numbers(texts):
    return [float(text.split()[0].replace(",", "")) for text in texts if text]


def test_the_best_stand_first_and_published_rows_among_them(opened):
    scores = numbers(column(opened, "PSNR (95 %)"))
    assert len(scores) == 4 + 13 and scores == sorted(scores, reverse=True)[: len(scores)]
    names = column(opened, "recipe or method")
    assert names[:3] == ["k3dn", "k3dn_tiny", "MDP published doubtful (1)"]
    assert names[-2:] == [
        "unprocessed input",
        "single tasks with L_C and L_D published",
    ]  # the last has scores of views alone
    assert opened.execute_script(TEXTS, f"{BOARD} .counts") == ["4 measured, 13 published"]
    assert opened.execute_script(TEXTS, f"{BOARD} tbody strong")[:3] == [f"{scores[0]:.3f}", "0.7524", "0.0338"]


def test_headings_sort_both_ways_and_empty_cells_stay_last(opened):
    for heading, first in (
        ("parameters", "ascending"),
        ("SSIM", "descending"),
        ("rank", "ascending"),
        ("time", "ascending"),
    ):
        other = {"ascending": "descending", "descending": "ascending"}[first]
        for direction in (first, other):
            assert opened.execute_script(PRESS, BOARD, heading) == [[heading, direction]]
            cells = [cell if cell != "–" else "" for cell in column(opened, heading)]
            known = numbers(cells)
            assert known == sorted(known, reverse=direction == "descending") and len(known) >= 3
            assert cells[len(known) :] == [""] * (len(cells) - len(known)) and len(cells) == 18
    opened.execute_script(PRESS, BOARD, "run or source")
    sources = [name for name in column(opened, "run or source") if name]
    assert sources[0].startswith("Abuolaim and Brown, ECCV") and sources[-1] == "mdp-dpdd-1"


def test_headings_and_rows_are_reached_by_the_keyboard(opened):
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    heading = opened.find_element("css selector", f"{BOARD} thead th:nth-child(5) button")
    heading.send_keys(keys.ENTER)
    assert opened.execute_script(TEXTS, f"{BOARD} th[aria-sort='descending']") == ["SSIM"]
    opened.find_element("css selector", f"{BOARD} button.open").send_keys(keys.SPACE)
    assert opened.execute_script("return document.activeElement.textContent") == "Close"
    opened.switch_to.active_element.send_keys(keys.ESCAPE)
    assert opened.execute_script(
        "return [document.getElementById('images').open, document.activeElement.className]"
    ) == [False, "open"]


def test_filters_show_what_fits(opened):
    def shown():
        return opened.execute_script("return document.getElementById('shown').textContent")

    everything = shown()
    opened.execute_script(FILTER, "dataset", "dpdd")
    titles = opened.execute_script(
        "return [...document.querySelectorAll('.board:not([hidden]) h2')].map((one) => one.textContent)"
    )
    assert len(titles) > 5 and all(title.startswith("dpdd") for title in titles)
    opened.execute_script(FILTER, "protocol", "dpdnet-16bit")
    assert shown() == "17 rows in 1 table"
    opened.execute_script(FILTER, "kind", "measured")
    assert shown() == "4 rows in 1 table" and "unprocessed input" in column(opened, "recipe or method")
    opened.execute_script(FILTER, "kind", "published")
    assert shown() == "13 rows in 1 table" and "unprocessed input" not in column(opened, "recipe or method")
    opened.execute_script(FILTER, "words", "ECCV dpdnet-s")
    assert column(opened, "recipe or method") == ["DPDNet-Single published"]
    opened.execute_script(FILTER, "kind", "")
    opened.execute_script(FILTER, "words", "K3DN_TINY-")
    assert column(opened, "run or source") == ["k3dn_tiny-dpdd-1", ""]
    opened.execute_script(FILTER, "words", "nothing is called so")
    assert shown() == "0 rows in 0 tables"
    opened.execute_async_script(
        "document.querySelector(\"button[type='reset']\").click(); setTimeout(arguments[0], 50)"
    )
    assert shown() == everything


def test_columns_of_groups_are_switched(opened):
    headings = opened.execute_script(TEXTS, f"{BOARD} thead th")
    assert not any("indoor" in heading for heading in headings)
    opened.find_element("css selector", f"{BOARD} .switch input").click()
    found = column(opened, "indoor PSNR")
    place = column(opened, "recipe or method").index("DPDNet published")
    assert found[place] == "27.48" and len(numbers(found)) > 6
    assert len(opened.execute_script(TEXTS, f"{BOARD} thead th")) == len(headings) + 6


def test_a_row_opens_its_images_with_pictures_that_are_decoded(opened):
    opened.execute_script(
        f"[...document.querySelectorAll('{BOARD} button.open')].find((one) => one.textContent === 'k3dn').click()"
    )
    assert opened.execute_script(TEXTS, "#images h2") == ["k3dn, k3dn-dpdd-1"]
    widths = opened.execute_async_script(
        "const done = arguments[0]; const images = [...document.querySelectorAll('#images img')];"
        "Promise.all(images.map((one) => one.decode())).then(() => done(images.map((one) => one.naturalWidth)), done)"
    )
    assert widths == [160, 128, 128, 128] * 6  # of six images there are pictures
    assert len(column(opened, "image", "#images")) == 76
    gains = [text.replace("−", "-") for text in column(opened, "PSNR − input", "#images")]
    rows = photographs(26.2, seed=2).rows
    expected = sorted(row["psnr"] - row["input_psnr"] for row in rows)
    assert gains == [f"{gain:+.3f}" for gain in expected] and column(opened, "MAE − input", "#images")[0][0] == "−"
    assert opened.execute_script(PRESS, "#images", "PSNR") == [["PSNR", "descending"]]
    scores = column(opened, "PSNR", "#images")
    expected = sorted((row["psnr"] for row in rows), reverse=True)
    assert scores == [f"{score:.3f}" for score in expected]
    captions = opened.execute_script(TEXTS, "#images figcaption")
    of_captions = [float(caption.split("PSNR ")[1].split(",")[0]) for caption in captions]
    assert len(captions) == 6 and of_captions == sorted(of_captions, reverse=True)  # the pictures follow the table
    opened.find_element("css selector", "#images .close").click()
    opened.execute_script(
        f"[...document.querySelectorAll('{BOARD} button.open')].find((one) => one.textContent === 'mdp').click()"
    )
    assert not opened.find_elements("css selector", "#images img") and len(column(opened, "image", "#images")) == 76


def test_plots_have_the_points_of_one_axis_and_follow_the_filters(opened):
    points = f"{BOARD} .plot g.point"
    titles = opened.execute_script(TEXTS, f"{points} title")
    assert len(titles) == 4 and any(title.startswith("k3dn, k3dn-dpdd-1 (measured): PSNR 26.") for title in titles)
    assert {*opened.execute_script(TEXTS, f"{BOARD} .plot text.label")} == {*NETWORKS}
    across = dict(opened.execute_script(PLACES, points))
    assert across["k3dn_tiny"] < across["k3dn"] < across["dpdnet"] < across["mdp"]
    choices = opened.execute_script(TEXTS, f"{BOARD} .plot option")
    assert choices[:5] == [
        "parameters (4)", "multiply-accumulates at 1152x1792 (2)", "seconds per image on NVIDIA H200 (2)",
        "seconds per image on cpu (1)", "multiply-accumulates at 1120x1680 (2)",
    ]  # fmt: skip
    opened.execute_script(CHOOSE, f"{BOARD} .plot", 4)
    assert sorted(title.split(",")[0] for title in opened.execute_script(TEXTS, f"{points} title")) == ["dpdnet", "mdp"]
    said = opened.execute_script(TEXTS, f"{BOARD} .plot text.axis")
    assert said == ["multiply-accumulates at 1120x1680, logarithmic", "PSNR (dB)"]
    opened.execute_script(FILTER, "words", "mdp-dpdd")
    assert [title.split(",")[0] for title in opened.execute_script(TEXTS, f"{points} title")] == ["mdp"]
    opened.execute_script(FILTER, "words", "")
    opened.execute_script("[...document.querySelectorAll('.plot')].forEach((one) => (one.open = true))")
    hollow = opened.execute_async_script(
        "setTimeout(() => arguments[0]([...document.querySelectorAll('.point.published')].map((one) => getComputedStyle(one).fill)), 300)"
    )
    ground = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert len(hollow) > 10 and {*hollow} == {ground}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (21e6, 45e6, [25e6, 30e6, 35e6, 40e6, 45e6]),  # of 1, 2 and 5 there would be none
        (31e6, 31e6 * 1.2, [32e6, 34e6, 36e6]),
        (3e6, 46e6, [5e6, 10e6, 20e6]),
    ],
)
def test_an_axis_has_at_least_three_marks(opened, low, high, expected):
    assert opened.execute_script(f"return ticksAlong({low}, {high})") == expected


def test_names_do_nothing_whatever_they_are(opened):
    assert opened.title == "Leaderboard"
    opened.execute_script("[...document.querySelectorAll('.switch input')].forEach((one) => one.click())")
    (button,) = [one for one in opened.find_elements("css selector", "button.open") if "onerror" in one.text]
    opened.execute_script("arguments[0].click()", button)
    assert column(opened, "image", "#images")[0].startswith("</script><img src=x onerror=")
    opened.execute_script(FILTER, "words", "</script>")
    assert opened.execute_script("return document.getElementById('shown').textContent") == "1 row in 1 table"
    assert not opened.find_elements("css selector", "img") and opened.title == "Leaderboard"
    links = opened.execute_script(
        "return [...document.querySelectorAll('main a')].map((one) => one.getAttribute('href'))"
    )
    assert {link for link in links if not link.startswith("#")} == {"https://example.org/runs/1"}
    assert HOSTILE[:40] in opened.execute_script(TEXTS, "#left-out li")[0]
    assert opened.execute_script(TEXTS, "#made a[href='#left-out']") == ["1 left out"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows_and_all_text_has_contrast(driver, page, width, scheme):
    show(driver, page, width, scheme)
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 27)"}[scheme]
    driver.execute_script(
        "document.querySelectorAll('details').forEach((one) => (one.open = true));"
        "document.querySelectorAll('.switch input').forEach((one) => one.click());"
    )
    wide, room = driver.execute_script(SIZES, "")
    assert wide == room >= width - 20  # but for the bar that scrolls down
    low = {name: value for name, value in driver.execute_script(CONTRASTS).items() if value < 4.5}
    driver.execute_script(f"document.querySelector('{BOARD} button.open').click()")
    low |= {name: value for name, value in driver.execute_script(CONTRASTS).items() if value < 4.5}
    assert not low
    wide, room = driver.execute_script(SIZES, "#images")
    assert wide == room <= width
    assert driver.execute_script(PINNED, BOARD) == [300, pytest.approx(1, abs=0.5), pytest.approx(0, abs=0.5)]
    assert not errors(driver)


def test_the_choice_of_colours_is_remembered(opened, page):
    def ground():
        return opened.execute_script("return getComputedStyle(document.body).backgroundColor")

    button = opened.find_element("id", "theme")
    said = []
    for _ in range(2):
        button.click()
        said.append((button.text, ground()))
    assert said == [("Colours: light", "rgb(255, 255, 255)"), ("Colours: dark", "rgb(21, 24, 27)")]
    show(opened, page)
    assert ground() == "rgb(21, 24, 27)"
    opened.find_element("id", "theme").click()
    assert ground() == "rgb(255, 255, 255)"


def test_long_tables_begin_with_their_first_rows(driver, tmp_path):
    (board,) = boards_of_many(tmp_path, 450)
    show(driver, write_page(tmp_path, [board]))
    assert len(column(driver, "rank")) == 100
    more = driver.find_element("css selector", f"{BOARD} .more")
    everything = 450 + len(board.printed_alike) + 1
    assert more.text == f"Show all {everything} rows"
    more.click()
    assert len(column(driver, "rank")) == everything and not more.is_displayed()
    driver.execute_script(PRESS, BOARD, "run or source")
    found = column(driver, "run or source")
    assert len(found) == 100 and found[-2:] == [f"run{99 - len(board.printed_alike) - place}" for place in (1, 0)]
    assert not errors(driver)


def boards_of_many(folder, count):
    save(folder, "one", photographs(25.0))
    (board,) = boards_of(folder)
    return leaderboards([replace(board.entries[0], run=f"run{place}") for place in range(count)])
