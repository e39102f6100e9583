"""Tables of results that may stand beside each other, beside what papers print: as text, as a page, in W&B."""
