"""Which published rows may be compared with a result, and why others may not."""

from collections import Counter

from dualpixel.data.registry import get_card
from dualpixel.evaluate.protocols import get_protocol
from dualpixel.evaluate.published import PUBLISHED_SPLIT, RENDERED, PublishedRow, published_rows
from dualpixel.evaluate.recipe_networks import (
    Network,
    name_of,
    network_of,
    network_tested,
    options_between,
    unknown_network,
)
from dualpixel.evaluate.result import Result
from dualpixel.metrics.per_image import OVERALL

VIEWS_OF = "mdp"
"""The recipe whose predicted views papers score."""


def rows_of(network: Network, result: Result) -> list[PublishedRow]:
    """Return the published rows of a network on the data of a result."""
    return [row for row in published_rows(result.dataset) if row.scores and files_of(row, network)]


def files_of(row: PublishedRow, network: Network) -> list[str]:
    """Return the files of ours that a row names for a network."""
    return [files for files in row.recipe if network_of(files) == network]


def not_whole(result: Result) -> str | None:
    """Say why a result is of other images than those papers score; None where it is not."""
    if result.split != PUBLISHED_SPLIT:
        return f"papers score the split {PUBLISHED_SPLIT}, this is {result.split}"
    if RENDERED in result.fingerprint:
        return "the views were rendered, those of papers were not"
    return None if result.complete else "a part of the split was scored"


def obstacle(row: PublishedRow, result: Result, network: Network) -> str | None:
    """Say why a row of the same network cannot be compared with a result; None where it can."""
    names = dict.fromkeys(name_of(files) for files in files_of(row, network))
    if result.recipe not in names:
        return f"the same network trained as {' or '.join(names)}, this is {result.recipe}"
    if row.protocol != result.protocol:
        protocol = f"protocol {row.protocol}" if row.protocol else "another or unknown protocol"
        return f"{protocol} ({row.part.protocol_said})"
    views = (result.views_from or {}).get("recipe")
    if get_protocol(row.protocol).views == "predicted" and views != VIEWS_OF:
        return f"the views were predicted by {views or 'an unknown network'}, there by {VIEWS_OF}"
    return other_images(row, result) or _other_set(row, result)


def other_images(row: PublishedRow, result: Result) -> str | None:
    """Say where a paper scored another number of images than a result, all or those of a group; None where it did not."""
    counts = {**Counter(image["group"] for image in result.rows), OVERALL: len(result.rows)}
    printed = row.table.groups | ({OVERALL: sum(row.table.groups.values())} if row.table.groups else {})
    others = [group for group, count in printed.items() if group in counts and counts[group] != count]
    return f"{counts[others[0]]} {others[0]} images here, {printed[others[0]]} there" if others else None


def _other_set(row: PublishedRow, result: Result) -> str | None:
    missing = [group for group in row.table.groups if group not in {image["group"] for image in result.rows}]
    if missing:
        return f"no {missing[0]} images here, {row.table.groups[missing[0]]} there"
    scenes = get_card(result.dataset).splits[result.split].scenes
    if not row.table.groups and scenes not in (None, len(result.rows)):
        return f"{len(result.rows)} images here, {scenes} in the whole split"
    return None


def why_nothing(result: Result) -> str:
    """Say why `compare_with_published` finds nothing for a result."""
    rows = [row for row in published_rows(result.dataset) if row.scores]
    none = f"no paper prints scores of this network ({result.recipe}) on all of {result.dataset} {PUBLISHED_SPLIT}"
    if not rows:
        return none
    reason = not_whole(result) or unknown_network(result.recipe, result.options, result.net)
    if reason:
        return f"not compared with what papers print: {reason}"
    network = network_tested(result.recipe, result.options, result.net)
    mine = rows_of(network, result)
    if mine:
        columns = ", ".join(dict.fromkeys(name for row in mine for line in row.scores.values() for name in line))
        return f"not compared with what papers print: none of their scores was measured ({columns})"
    others = [network_of(files) for row in rows for files in row.recipe if name_of(files) == result.recipe]
    if not others:
        return none
    apart = min((options_between(network, other) for other in others), key=len)
    return f"not compared with what papers print: its options differ from the paper's: {'; '.join(apart)}"
