"""`convert RECIPE --source FILE [FILE ...] --out OUT`."""

from pathlib import Path

from jsonargparse import ArgumentParser

from dualpixel.commands.arguments import parse


def run(arguments: list[str]) -> None:
    """Turn an authors' weight file into ours (safetensors with metadata).

    Args:
        arguments: what stands behind ``convert``.

    Raises:
        DualPixelError: wrong arguments, an unknown recipe, or files of another network.
    """
    parser = ArgumentParser(prog="dualpixel convert", description=run.__doc__.split("\n")[0], exit_on_error=False)
    parser.add_argument("recipe", type=str, help="the recipe that the weights are for, such as dpdnet or dpdnet_single")
    parser.add_argument("--source", type=Path, nargs="+", required=True, help="the authors' file or files")
    parser.add_argument("--out", type=Path, required=True, help="the file to be written, ending in .safetensors")
    options = parse(parser, arguments)

    from dualpixel.weights import convert

    metadata = convert(options.recipe, options.source, options.out)
    print(f"{options.out}: {', '.join(f'{key} {value}' for key, value in metadata.items())}")
