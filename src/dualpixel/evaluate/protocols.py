"""Protocols: what exactly was compared with what. The id of one stands beside every score.

Those of ours are files beside this one, ``protocol_files/ID.yaml``; a user's file of the same keys is taken as well.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.protocol import Protocol
from dualpixel.files import read_yaml
from dualpixel.hints import near

FILES = Path(__file__).parent / "protocol_files"
ENDINGS = (".yaml", ".yml")


def load_protocol(path: Path) -> Protocol:
    """Read and validate the file of a protocol.

    Raises:
        DualPixelError: not such a file; the message names the key.
    """
    return build(Protocol, read_yaml(path), str(path))


FIRST = ("dpdnet-16bit.yaml", "whole-8bit.yaml")
PROTOCOLS = {
    protocol.id: protocol
    for protocol in map(
        load_protocol, sorted(FILES.glob("*.yaml"), key=lambda path: (path.name not in FIRST, path.name))
    )
}
"""Those of ours, by id, what most data sets are scored by first."""


def get_protocol(name: str) -> Protocol:
    """Return a protocol of ours by its id.

    Raises:
        DualPixelError: there is none.
    """
    if name not in PROTOCOLS:
        raise DualPixelError(f"no protocol {name!r}; {near(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def find_protocol(name: str) -> Protocol:
    """Return a protocol of ours by its id, or the one of a user's file.

    The id of the latter ends in digits that stand for its keys (`Protocol.fingerprint`), so that scores by two files that say
    something else never stand in one table.

    Args:
        name: an id, or the path of a YAML file.

    Raises:
        DualPixelError: there is none, or the file does not describe one.
    """
    if Path(name).suffix not in ENDINGS:
        return get_protocol(name)
    protocol = load_protocol(Path(name))
    return replace(protocol, id=f"{protocol.id}-{protocol.fingerprint}")


def check_data(protocol: Protocol, name: str, bit_depth: int) -> None:
    """Refuse data of other bits than the protocol is for.

    Args:
        protocol: of the test.
        name: of the data set.
        bit_depth: of its images.

    Raises:
        DualPixelError: the protocol is for others.
    """
    if bit_depth not in protocol.data_bits:
        fitting = [one.id for one in PROTOCOLS.values() if bit_depth in one.data_bits]
        raise DualPixelError(
            f"protocol {protocol.id} is for data of {' or '.join(map(str, protocol.data_bits))} bits, {name} has "
            f"{bit_depth}: choose --protocol {' or '.join(fitting)}"
        )


def check_views(protocol: Protocol, given: bool) -> None:
    """Refuse to predict views without a network, and a network that nobody asks.

    Args:
        protocol: of the test.
        given: whether there is a network that predicts views.

    Raises:
        DualPixelError: it is missing, or of no use.
    """
    predicted = protocol.views == "predicted"
    if predicted and not given:
        raise DualPixelError(
            f"protocol {protocol.id} needs the weights of the network that predicts the views, such as MDP's: --scores.views_from FILE"
        )
    if given and not predicted:
        asking = [name for name, one in PROTOCOLS.items() if one.views == "predicted"]
        raise DualPixelError(
            f"--scores.views_from: protocol {protocol.id} takes the views of the data; choose --protocol {' or '.join(asking)}"
        )


def protocol_lines(protocols: Sequence[Protocol] = tuple(PROTOCOLS.values())) -> list[str]:
    """Return protocols in words: the id, what is compared, and who defined it, a line each."""
    return [line for one in protocols for line in (one.id, f"  {one.description}", f"  source: {one.source}")]
