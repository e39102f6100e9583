"""A real browser without a window, of the system; nothing of it reaches the network."""

import shutil
from contextlib import contextmanager

import pytest

PROGRAMS = ("chromium", "chromedriver")
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


@contextmanager
def browser(folder):
    """Give a driver with an empty profile in a folder; skip where the browser or its driver is missing."""
    found = {name: shutil.which(name) for name in PROGRAMS}
    if None in found.values():
        pytest.skip(f"no {' or '.join(name for name, path in found.items() if path is None)} to open the page in")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = found["chromium"]
    for argument in (*ARGUMENTS, f"--user-data-dir={folder}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # with a path of its own selenium downloads no driver
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(found["chromedriver"]))
    try:
        driver.set_page_load_timeout(60)
        yield driver
    finally:
        driver.quit()


def show(driver, page, width=1280, scheme="light"):
    """Open a page at a width, in light or dark."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get(page.as_uri())


def errors(driver):
    """Return what the console said since the last time."""
    return [entry["message"] for entry in driver.get_log("browser")]
