"""`protocols [NAME ...]`."""

from jsonargparse import ArgumentParser

from dualpixel.commands.arguments import parse


def run(arguments: list[str]) -> None:
    """Say how scores are compared: all protocols, or those that are named.

    Args:
        arguments: what stands behind ``protocols``: ids, or files of protocols.

    Raises:
        DualPixelError: wrong arguments, no such protocol, or a file that does not describe one.
    """
    parser = ArgumentParser(prog="dualpixel protocols", description=run.__doc__.split("\n")[0], exit_on_error=False)
    parser.add_argument("names", nargs="*", type=str, help="ids, or YAML files of your own; by default all of ours")
    options = parse(parser, arguments)

    from dualpixel.evaluate.protocols import FILES, PROTOCOLS, find_protocol, protocol_lines

    chosen = [find_protocol(name) for name in options.names] or list(PROTOCOLS.values())
    print("\n".join(protocol_lines(chosen)))
    print(
        f"\nchoose by `test --protocol ID`; files of your own (`test --protocol FILE.yaml`) are made like those of {FILES}"
    )
