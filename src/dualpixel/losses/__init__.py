"""Losses of the papers that torch does not have: pure functions of prediction and target."""
