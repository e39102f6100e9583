"""Parts of networks that know shapes, not papers. Import them from their modules, for example `dualpixel.blocks.unet`."""
