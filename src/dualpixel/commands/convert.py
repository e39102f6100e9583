"""`convert RECIPE --source FILE [FILE ...] --out OUT [--OPTION VALUE]`."""

from pathlib import Path

from dualpixel.commands.arguments import call_one


def run(arguments: list[str]) -> None:
    """Run the command."""
    call_one("dualpixel convert", convert, arguments)


def convert(recipe: str, source: list[Path], out: Path, rgb: bool = True) -> None:
    """Turn an authors' weight file into ours (safetensors with metadata).

    Args:
        recipe: the recipe that the weights are for, such as dpdnet or dpdnet_single.
        source: the authors' file or files.
        out: the file to be written, ending in .safetensors.
        rgb: permute the first and the last layer so that the network takes and gives RGB; false keeps the authors' BGR order.
    """
    from dualpixel.weights import convert as convert_weights

    metadata = convert_weights(recipe, source, out, rgb=rgb)
    print(f"{out}: {', '.join(f'{key} {value}' for key, value in metadata.items())}")
